"""LightningModules: one per model; the estimator is an argument."""

from ils_lightning.modules.base import DiscreteModule, Problem, Tracked
from ils_lightning.modules.categorical import CategoricalFit
from ils_lightning.modules.discrete_vae import DiscreteVAE
from ils_lightning.modules.hierarchical_vae import HierarchicalVAE
from ils_lightning.modules.polynomial import PolynomialProgramming
from ils_lightning.modules.prior import LearntPrior, Prior, UniformPrior

__all__ = [
    "CategoricalFit",
    "DiscreteModule",
    "DiscreteVAE",
    "HierarchicalVAE",
    "LearntPrior",
    "PolynomialProgramming",
    "Prior",
    "Problem",
    "Tracked",
    "UniformPrior",
]
