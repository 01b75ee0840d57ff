"""How far learnt distributions are from true ones, averaged over all rows seen (and over ranks)."""

import torch
from torch import Tensor

from ils_lightning.metrics.mean_over_rows import MeanOverRows


def kl_divergence(p: Tensor, pi: Tensor) -> Tensor:
    """KL(p || pi) in nats of each row of `[..., categories]`: `[...]`; rows of p may hold zeros."""
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, pi)).sum(dim=-1)


class KLDivergence(MeanOverRows):
    """KL(true || learnt) in nats.

    Like all here it is updated with true distributions p and learnt ones pi, both `[..., categories]`.

    Example:
        >>> metric = KLDivergence()
        >>> metric.update(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]))
        >>> metric.compute()
        tensor(0.6931)
    """

    def measure(self, p: Tensor, pi: Tensor) -> Tensor:
        return kl_divergence(p, pi)


class KLPerCategory(KLDivergence):
    """KL(true || learnt) divided by the number of categories, as toy example 1 tracks it."""

    def measure(self, p: Tensor, pi: Tensor) -> Tensor:
        return super().measure(p, pi) / p.shape[-1]


class TotalVariation(MeanOverRows):
    """Half the sum of absolute differences, between 0 and 1."""

    def measure(self, p: Tensor, pi: Tensor) -> Tensor:
        return (p - pi).abs().sum(dim=-1) / 2


class LearntEntropy(MeanOverRows):
    """Entropy of the learnt distribution in nats."""

    def measure(self, p: Tensor, pi: Tensor) -> Tensor:
        return torch.special.entr(pi).sum(dim=-1)
