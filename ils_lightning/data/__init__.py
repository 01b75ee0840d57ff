"""LightningDataModules: what the models train on."""

from ils_lightning.data.base import DiscreteData
from ils_lightning.data.draws import SingleDraws, Targets, TrueDistribution
from ils_lightning.data.steps import NoData

__all__ = ["DiscreteData", "NoData", "SingleDraws", "Targets", "TrueDistribution"]
