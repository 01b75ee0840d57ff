"""Layers with a discrete node, in the shape in which networks hold them: a quantizer and a router."""

from ils_lightning.layers.gates import DenseMixer, TopKGate
from ils_lightning.layers.quantizer import Quantizer
from ils_lightning.layers.router import Router, Routing

__all__ = ["DenseMixer", "Quantizer", "Router", "Routing", "TopKGate"]
