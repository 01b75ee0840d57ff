"""Intermediate Loss Sampling (Shliselberg, 2019, github.com/mshlis/ILSampling).

    z ~ pi = softmax(theta), exact;   with g = df/dz and h a normaliser that leaves one-hot vectors as they are:
    Delta = g dh/dz = g - g[z];   pi_D = h(z - alpha Delta), one step towards the distribution that serves the loss;
    estimate = d L_I(pi, pi_D) / d theta, with L_I = KL(pi_D || pi): pi - pi_D

The published program hands d L_I / d pi = -pi_D / (pi + 1e-7) to the logits without softmax's Jacobian
(`pullback="none"`): the natural gradient of the same loss, up to a constant to which softmax is blind.
"""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Option, per_row
from ils_lightning.estimators.categorical import difference, plain, plain_call, readable
from ils_lightning.estimators.intermediate import (
    SMALLEST_SUM,
    IntermediateLoss,
    KullbackLeibler,
    Normalizer,
    few_of_simplex,
    normalize,
)
from ils_lightning.estimators.sampler import Pullback


class ILS(Pullback):
    """Matches the model to one step of the draw towards a better distribution.

    Args:
        step_size: alpha of the step; it acts on one example's df/dz.
        pullback: "softmax" is the algorithm as written; "none" the author's program, returned mean-free.
        normalizer: h: "sum" (published), "clip" or "simplex"; see `intermediate.normalize`.
        intermediate_loss: L_I; `KullbackLeibler()` unless given.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> loss = ILS(step_size=0.1)(logits, lambda z: z[..., 0].sum(-1))
        >>> loss.sum().backward()
    """

    source = "Shliselberg 2019, github.com/mshlis/ILSampling"
    equation = r"""
        z &\sim \pi \\
        \Delta &= g - g \cdot z \\
        \pi_D &= h(z - \alpha \Delta), \text{ where } h \text{ normalises and leaves one-hot vectors as they are} \\
        L_I &= \mathrm{KL}(\pi_D \,\Vert\, \pi) \\
        \hat\nabla &= \frac{\partial L_I}{\partial \theta} = \pi - \pi_D
    """
    fallbacks: Tensor

    def __init__(
        self,
        step_size: Option = 0.1,
        pullback: Literal["softmax", "none"] = "softmax",
        normalizer: Normalizer = "sum",
        intermediate_loss: IntermediateLoss | None = None,
    ) -> None:
        super().__init__()
        self.option("step_size", step_size)
        if pullback not in ("softmax", "none") or normalizer not in get_args(Normalizer):
            raise Refusal(
                'ILS: pullback must be "softmax" or "none" and normalizer "sum", "clip" or "simplex"; '
                f"given {pullback!r} and {normalizer!r}"
            )
        self.reading = pullback
        self.normalizer: Normalizer = normalizer
        self.intermediate_loss = intermediate_loss or KullbackLeibler()
        self.register_buffer("fallbacks", torch.zeros((), dtype=torch.float64), persistent=False)
        self.rows_seen = 0

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        delta = g - (g * z).sum(dim=-1, keepdim=True)
        support = pi > 0
        pi_d, small = normalize(z - per_row(self.step_size, logits) * delta, support, self.normalizer)
        self._count(small)
        if self.reading == "softmax":
            return self.intermediate_loss.logit_gradient(pi, pi_d)
        v = self.intermediate_loss.derivative(pi, pi_d) * support
        return (v - v.sum(dim=-1, keepdim=True) / support.sum(dim=-1, keepdim=True)) * support

    def rearranged(self, logits: Tensor, pi: Tensor, index: Tensor, g: Tensor) -> Tensor:
        """The same where nothing is masked, in few passes: rows whose step leaves the simplex are mended afterwards."""
        if self.normalizer != "sum" or not (readable(pi) and pi.numel() and pi.amin().item() > 0):
            return super().rearranged(logits, pi, index, g)
        k, alpha = index.unsqueeze(-1), per_row(self.step_size, logits)
        v = difference(pi, g.gather(-1, k), g)  # -Delta
        total = v.sum(dim=-1, keepdim=True).mul_(alpha).add_(1)  # of z - alpha Delta
        lowest = total.amin().item()
        if not math.isfinite(lowest):
            return super().rearranged(logits, pi, index, g)
        self.rows_seen += self.training * total.numel()
        projected = None if lowest >= SMALLEST_SUM else self._projected(v, total, index, alpha)
        share = total.reciprocal_()
        if self.reading == "softmax" and type(self.intermediate_loss) is KullbackLeibler:
            share.neg_()
            estimate = torch.addcmul(pi, v, share * alpha, out=plain(v)).scatter_add_(-1, k, share)  # pi - pi_D
            return _added(estimate, projected, -1)
        pi_d = _added(torch.mul(v, share * alpha, out=plain(v)).scatter_add_(-1, k, share), projected, 1)
        if self.reading == "softmax":
            return self.intermediate_loss.logit_gradient(pi, pi_d)
        v = self.intermediate_loss.derivative(pi, pi_d)
        return v - v.mean(dim=-1, keepdim=True)

    def _projected(self, v: Tensor, total: Tensor, index: Tensor, alpha: Any) -> tuple[Tensor, Tensor]:
        """Rows with too small a total of z - alpha Delta, projected onto the simplex: places in v, values there.

        Their totals become infinite, so that what is divided by them is zero.
        """
        small = total.flatten() < SMALLEST_SUM
        rows = small.nonzero().squeeze(-1)
        self.fallbacks.add_(self.training * len(rows))
        step, k = v.flatten(0, -2).index_select(0, rows), index.flatten().index_select(0, rows).unsqueeze(-1)
        step.mul_(alpha.expand_as(total).flatten()[rows].unsqueeze(-1) if isinstance(alpha, Tensor) else alpha)
        places, row, values = few_of_simplex(step, k)
        total.masked_fill_(small.view_as(total), math.inf)
        ahead = (rows - torch.arange(len(rows))).mul_(v.shape[-1])  # of a place in v, beside that in the rows alone
        return places.add_(ahead.index_select(0, row)), values

    def diagnostics(self) -> dict[str, Tensor]:
        """Share of rows since the last call whose step left the half-space where "sum" is a distribution.

        Compiled steps are not counted.
        """
        share = self.fallbacks / max(self.rows_seen, 1)
        self.fallbacks, self.rows_seen = torch.zeros_like(self.fallbacks), 0
        return {"fallback_share": share}

    def _count(self, small: Tensor) -> None:
        if self.training and plain_call():
            self.fallbacks = self.fallbacks + small.sum()
            self.rows_seen += small.numel()


def _added(x: Tensor, few: tuple[Tensor, Tensor] | None, sign: int) -> Tensor:
    """x, plus or minus values at few places of it."""
    if few is not None:
        x.view(-1).index_add_(0, *few, alpha=sign)
    return x
