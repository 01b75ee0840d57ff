"""How far learnt distributions are from true ones, averaged over all rows seen (and over ranks)."""

import torch
from torch import Tensor
from torchmetrics import Metric


def kl_divergence(p: Tensor, pi: Tensor) -> Tensor:
    """KL(p || pi) in nats of each row of `[..., categories]`: `[...]`; rows of p may hold zeros."""
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, pi)).sum(dim=-1)


class MeanOverRows(Metric):
    """Mean of a quantity of each row; subclasses write `measure`."""

    full_state_update = False
    total: Tensor
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def measure(self, p: Tensor, pi: Tensor) -> Tensor:
        """Returns the quantity of each row."""
        raise NotImplementedError(f"{type(self).__name__} must define measure(p, pi)")

    def update(self, p: Tensor, pi: Tensor) -> None:
        """Adds true distributions `p` and learnt ones `pi`, both `[..., categories]`."""
        values = self.measure(p, pi)
        self.total += values.double().sum()
        self.rows += values.numel()

    def compute(self) -> Tensor:
        """Returns the mean over rows, in float32."""
        return (self.total / self.rows).float()


class KLDivergence(MeanOverRows):
    """KL(true || learnt) in nats, divided by the number of categories, as toy example 1 tracks it.

    Example:
        >>> metric = KLDivergence()
        >>> metric.update(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.5]]))
        >>> metric.compute()
        tensor(0.)
    """

    def measure(self, p: Tensor, pi: Tensor) -> Tensor:
        return kl_divergence(p, pi) / p.shape[-1]


class TotalVariation(MeanOverRows):
    """Half the sum of absolute differences, between 0 and 1."""

    def measure(self, p: Tensor, pi: Tensor) -> Tensor:
        return (p - pi).abs().sum(dim=-1) / 2


class LearntEntropy(MeanOverRows):
    """Entropy of the learnt distribution in nats."""

    def measure(self, p: Tensor, pi: Tensor) -> Tensor:
        return torch.special.entr(pi).sum(dim=-1)
