"""LightningModules: one per model; the estimator is an argument."""

from ils_lightning.modules.base import DiscreteModule
from ils_lightning.modules.categorical import CategoricalFit

__all__ = ["CategoricalFit", "DiscreteModule"]
