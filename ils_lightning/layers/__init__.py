"""Layers with a discrete node, in the shape in which networks hold them: a quantizer and a router."""

from ils_lightning.layers.gates import DenseMixer, TopKGate
from ils_lightning.layers.quantizer import Quantizer
from ils_lightning.layers.released_quantizer import ReleasedQuantizer
from ils_lightning.layers.router import Router, Routing
from ils_lightning.layers.vector_quantizer import VectorQuantizer

__all__ = ["DenseMixer", "Quantizer", "ReleasedQuantizer", "Router", "Routing", "TopKGate", "VectorQuantizer"]
