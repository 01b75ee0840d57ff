"""Metrics as torchmetrics classes: they accumulate over batches and merge over ranks."""

from ils_lightning.metrics.divergence import KLDivergence, LearntEntropy, TotalVariation, kl_divergence

__all__ = ["KLDivergence", "LearntEntropy", "TotalVariation", "kl_divergence"]
