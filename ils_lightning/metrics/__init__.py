"""Metrics as torchmetrics classes: they accumulate over batches and merge over ranks."""

from ils_lightning.metrics.divergence import KLDivergence, LearntEntropy, TotalVariation, kl_divergence
from ils_lightning.metrics.elbo import ImportanceWeightedBound, NegativeELBO

__all__ = [
    "ImportanceWeightedBound",
    "KLDivergence",
    "LearntEntropy",
    "NegativeELBO",
    "TotalVariation",
    "kl_divergence",
]
