"""The two arguments of Intermediate Loss Sampling: an intermediate loss L_I(pi, pi_D) and a normaliser h.

L_I is differentiated with respect to its first argument, the model's probabilities; the target pi_D is held fixed.
h maps real vectors onto the simplex and leaves one-hot vectors as they are. All tensors are `[..., categories]`.
"""

from typing import Literal

import torch
from torch import Tensor

from ils_lightning.describe import Described
from ils_lightning.errors import Refusal
from ils_lightning.estimators.categorical import jacobian, readable

Normalizer = Literal["sum", "clip", "simplex"]
SMALLEST_SUM = 1e-3


class IntermediateLoss(Described):
    """L_I(pi, target): subclasses write `derivative`, d L_I / d pi."""

    _abstract = True

    def derivative(self, pi: Tensor, target: Tensor) -> Tensor:
        """Returns d L_I / d pi."""
        raise NotImplementedError(f"{type(self).__name__} must define derivative(pi, target)")

    def logit_gradient(self, pi: Tensor, target: Tensor) -> Tensor:
        """Returns d L_I / d logits, pulled back through softmax."""
        return jacobian(pi, self.derivative(pi, target))


class KullbackLeibler(IntermediateLoss):
    """L_I = KL(pi_D || pi), the published choice; its logit gradient is pi - pi_D.

    Args:
        epsilon: added to pi before the division, in `derivative` only.
    """

    def __init__(self, epsilon: float = 1e-7) -> None:
        if epsilon < 0:
            raise Refusal(f"KullbackLeibler: epsilon must be at least 0; given {epsilon}")
        self.epsilon = epsilon

    def derivative(self, pi: Tensor, target: Tensor) -> Tensor:
        return -target / (pi + self.epsilon)

    def logit_gradient(self, pi: Tensor, target: Tensor) -> Tensor:
        return pi * target.sum(dim=-1, keepdim=True) - target


class Hellinger(IntermediateLoss):
    """L_I = 2 - 2 sum_k sqrt(pi_D,k pi_k), twice the squared Hellinger distance: KL's curvature, a bounded derivative.

    Negative entries of pi_D (possible with the normaliser "sum") count as zero.
    """

    def derivative(self, pi: Tensor, target: Tensor) -> Tensor:
        tiny = torch.finfo(pi.dtype).tiny
        return -(target.clamp(min=0) / pi.clamp(min=tiny)).sqrt()

    def logit_gradient(self, pi: Tensor, target: Tensor) -> Tensor:
        affinity = (pi * target.clamp(min=0)).sqrt()
        return pi * affinity.sum(dim=-1, keepdim=True) - affinity


def simplex(v: Tensor) -> Tensor:
    """Euclidean projection of `v` onto the simplex (Duchi et al., 2008, ICML); entries of -inf stay at zero."""
    if readable(v) and v.numel():
        v = v - v.amax(dim=-1, keepdim=True)
        return v.sub_(_threshold(v)).clamp_(min=0)
    ordered = v.sort(dim=-1, descending=True).values
    excess = ordered.cumsum(dim=-1) - 1
    rank = torch.arange(1, v.shape[-1] + 1, device=v.device, dtype=v.dtype)
    size = (ordered * rank > excess).sum(dim=-1, keepdim=True).clamp(min=1)
    return (v - excess.gather(-1, size - 1) / size).clamp(min=0)


def _threshold(v: Tensor) -> Tensor:
    """The number t of each row for which max(v - t, 0) sums to one, by Newton's method: without a sort. max v is 0.

    From -1, where the sum is one at least, t grows until no more entries fall below it (Michelot, 1986).
    """
    t = torch.full_like(v[..., :1], -1)
    positive = torch.full_like(t, v.shape[-1] + 1)
    while True:
        rest = (v - t).clamp_(min=0)
        before, total = positive, rest.sum(dim=-1, keepdim=True)
        positive = rest.sign_().sum(dim=-1, keepdim=True)
        if not (positive < before).any():
            return t
        t = torch.maximum(t, t + (total - 1) / positive)


def normalize(v: Tensor, support: Tensor, normalizer: Normalizer) -> tuple[Tensor, Tensor]:
    """Maps `v` onto the simplex over `support` (a mask of allowed categories).

    "sum" divides by the sum, "clip" sets negative entries to zero first, "simplex" projects. Rows whose sum is below
    `SMALLEST_SUM` cannot be divided without blowing up or changing sign: they are projected instead.

    Returns:
        The distribution, and the mask `[..., 1]` of rows whose sum was not positive enough.
    """
    if normalizer == "simplex":
        projected = simplex(v.masked_fill(~support, float("-inf")))
        return projected, torch.zeros_like(support[..., :1])
    weights = (v.clamp(min=0) if normalizer == "clip" else v) * support
    total = weights.sum(dim=-1, keepdim=True)
    small = total < SMALLEST_SUM
    divided = weights / torch.where(small, 1, total)
    if not readable(v):
        return torch.where(small, simplex(v.masked_fill(~support, float("-inf"))), divided), small
    rows = small.squeeze(-1)
    if rows.any():
        divided[rows] = simplex(v[rows].masked_fill(~support.expand_as(v)[rows], float("-inf")))
    return divided, small
