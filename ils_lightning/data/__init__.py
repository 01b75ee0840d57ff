"""LightningDataModules: what the models train on."""

from ils_lightning.data.base import DiscreteData
from ils_lightning.data.draws import SingleDraws, Targets, TrueDistribution

__all__ = ["DiscreteData", "SingleDraws", "Targets", "TrueDistribution"]
