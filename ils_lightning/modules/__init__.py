"""LightningModules: one per model; the estimator is an argument."""

from ils_lightning.modules.base import DiscreteModule, Problem, Tracked
from ils_lightning.modules.categorical import CategoricalFit
from ils_lightning.modules.polynomial import PolynomialProgramming

__all__ = ["CategoricalFit", "DiscreteModule", "PolynomialProgramming", "Problem", "Tracked"]
