"""Metrics as torchmetrics classes: they accumulate over batches and merge over ranks."""

from ils_lightning.metrics.active_latents import ActiveLatents
from ils_lightning.metrics.code_usage import CodeEntropy, CodeUsage, Perplexity
from ils_lightning.metrics.divergence import KLDivergence, KLPerCategory, LearntEntropy, TotalVariation, kl_divergence
from ils_lightning.metrics.elbo import ImportanceWeightedBound, NegativeELBO
from ils_lightning.metrics.gradient import GradientCosine, RelativeBias, RelativeVariance, SignalToNoise

__all__ = [
    "ActiveLatents",
    "CodeEntropy",
    "CodeUsage",
    "GradientCosine",
    "ImportanceWeightedBound",
    "KLDivergence",
    "KLPerCategory",
    "LearntEntropy",
    "NegativeELBO",
    "Perplexity",
    "RelativeBias",
    "RelativeVariance",
    "SignalToNoise",
    "TotalVariation",
    "kl_divergence",
]
