"""The two arguments of Intermediate Loss Sampling: an intermediate loss L_I(pi, pi_D) and a normaliser h.

L_I is differentiated with respect to its first argument, the model's probabilities; the target pi_D is held fixed.
h maps real vectors onto the simplex and leaves one-hot vectors as they are. All tensors are `[..., categories]`.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
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

        def sums(t: Tensor) -> tuple[Tensor, Tensor]:
            rest = (v - t).clamp_(min=0)
            return rest.sum(dim=-1, keepdim=True), rest.sign_().sum(dim=-1, keepdim=True)

        # from -1, where the sum is one at least
        return v.sub_(_threshold(torch.full_like(v[..., :1], -1), sums)).clamp_(min=0)
    ordered = v.sort(dim=-1, descending=True).values
    excess = ordered.cumsum(dim=-1) - 1
    rank = torch.arange(1, v.shape[-1] + 1, device=v.device, dtype=v.dtype)
    size = (ordered * rank > excess).sum(dim=-1, keepdim=True).clamp(min=1)
    return (v - excess.gather(-1, size - 1) / size).clamp(min=0)


def few_of_simplex(step: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The projection of `step` `[rows, categories]`, zero at k `[rows, 1]`, plus one at k: what may be positive in it.

    With m the largest number of a step, k and m's category alone say that the threshold is m / 2 and m - 1 at least.
    Most entries lie below that, and the rest is work on few numbers. Overwrites `step`; on a CPU, in a plain call.

    Returns:
        Places in `step.flatten()`, their rows and the projection's values there, `[places]` each; elsewhere it is zero.
    """
    m = step.amax(dim=-1, keepdim=True)
    top = m.clamp(min=1)  # as in `simplex`, the threshold is found from the largest entry on
    t = torch.sub(m, top, alpha=2).div_(2).clamp_(min=-1)
    reached = np.greater_equal(step.scatter_(-1, k, 1).numpy(), (top + t).numpy())  # a fifth of torch's time
    places, t = torch.from_numpy(np.flatnonzero(reached)), t.squeeze(-1)
    row = places // step.shape[-1]
    x = step.flatten().index_select(0, places).sub_(top.squeeze(-1).index_select(0, row))
    rest = x

    def sums(t: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal rest
        rest = torch.sub(x, t.index_select(0, row)).clamp_(min=0)
        zeros = torch.zeros_like(t)
        return zeros.index_add(0, row, rest), zeros.index_add_(0, row, rest.sign())

    _threshold(t, sums)
    return places, row, rest


def _threshold(t: Tensor, sums: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """The number t of each row for which max(v - t, 0) sums to one, by Newton's method: without a sort.

    From below, t grows until no more entries fall below it (Michelot, 1986).

    Args:
        t: where to start, at which the sum is one at least.
        sums: the sum of max(v - t, 0), and how many entries of it are positive.
    """
    total, positive = sums(t)
    while True:
        t = torch.maximum(t, t + (total - 1).div_(positive))
        before, (total, positive) = positive, sums(t)
        if not (positive < before).any():
            return t


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
