"""ILS with a Newton step: straight-through or ReinMax without the noise of the row's own draw (this project).

    estimate = M_s (g - H z) + 1/2 J_pi diag H,   d = z - pi
    S = moving sum of (g - mean_k g) d^T,   P = moving sum of J_pi,   over rows, steps and ranks
    H = sym[(S + r eta C)(P + r C + t (I - C) + 1e-12 I)^-1]
    C = I - 11^T / K,   eta = trS / trP,   t = trP / K,   r = ridge t

With H of the population the expectation is ReinMax's for every f, at a fraction of its variance.

Choosing the base from the data was considered and left: in a digits autoencoder a lower base trades variance for bias,
and which sum is least depends on how many steps the optimiser averages over (`python
experiments/pooling_table.py`). What pays is to take away the noise of the other latents' draws, and of the base itself,
without bias: see `ILSJoint`.
"""

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Option
from ils_lightning.estimators.family import SMALLEST_TRACE, Curved, centred

LARGEST_RIDGE = 1e6
"""Beyond it the system is singular to float64."""


class ILSNewton(Curved):
    """Removes from the estimate what a pooled curvature matrix explains of the draw's own noise.

    Use it up to about 64 categories and from about 32 rows a step: the state is a K x K matrix per latent, and each
    step solves one K x K system per latent whatever the number of rows. Above, use `ILSDiagonal`, whose state is a
    vector and whose variance is a little higher; for 2 categories `ILSIsotropic` is the same method with a number.

    Each layer needs its own instance: the curvature of one is wrong in another. The first step has H = 0: a base of 0
    is then straight-through. Rows whose curvatures differ share one H; the expectation is then off ReinMax's, by a
    share (1 - s^2)/(1 + s^2) of what it is at base 0.

    Args:
        decay: weight of the past in the moving sums, in [0, 1).
        ridge: pull of H towards a multiple of the identity, relative to the mean of P's diagonal. It leaves a bias
            of about half a percent at .01.
        base: s of the step's base pi + s d: 0 has the least variance, 1 the least bias.

    Example:
        >>> import torch
        >>> logits = torch.zeros(64, 1, 3, requires_grad=True)
        >>> estimator = ILSNewton()
        >>> for step in range(2):
        ...     estimator(logits, lambda z: z[..., 0].square().sum(-1)).sum().backward()
        >>> estimator.S.shape
        torch.Size([1, 3, 3])
    """

    equation = r"""
        d &= z - \pi \\
        M_s v &= \frac{J_\pi v + s^2 d \, (d \cdot v)}{1 + s^2} \\
        \hat\nabla &= M_s (g - H z) + \tfrac{1}{2} J_\pi \operatorname{diag} H \\
        S &= \langle (g - \overline{g}) \, d^\top \rangle \\
        P &= \langle J_\pi \rangle \\
        H &= \operatorname{sym}\left[(S + r \eta C)(P + r C + t (I - C) + 10^{-12} I)^{-1}\right] \\
        C &= I - \tfrac{1}{K} \mathbf{1} \mathbf{1}^\top \\
        \eta &= \frac{\operatorname{tr} S}{\operatorname{tr} P} \\
        t &= \frac{\operatorname{tr} P}{K} \\
        r &= \text{ridge} \cdot t
    """

    statistics = ("S", "P")
    S: Tensor
    P: Tensor

    def __init__(self, decay: float = 0.9, ridge: float = 0.01, base: Option = 0.5) -> None:
        super().__init__(decay, base)
        if not 0 <= ridge <= LARGEST_RIDGE:
            raise Refusal(f"{type(self).__name__}: ridge must be from 0 to {LARGEST_RIDGE:g}; given {ridge}")
        self.ridge = ridge
        self.ranges["ridge"] = (0.0, False)

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        return ((latents, categories, categories),) * 2

    def system(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the matrix to be inverted, its part r C, and which latents have no noise to learn from."""
        P = self.P.double()
        allowed = (P.diagonal(dim1=-2, dim2=-1) > 0).to(P)
        count = allowed.sum(dim=-1)[:, None, None].clamp(min=1)  # K, without categories that are always masked
        identity = torch.eye(P.shape[-1], dtype=P.dtype, device=P.device)
        C = torch.diag_embed(allowed) - allowed[:, :, None] * allowed[:, None, :] / count
        trace_P = trace(P)
        empty = (trace_P < SMALLEST_TRACE) | (count < 2)
        t = torch.where(empty, 1, trace_P / count)
        pull = self.ridge * t * C
        return P + pull + t * (identity - C) + 1e-12 * identity, pull, empty

    def curvature(self) -> Tensor:
        return self.curvature_and()[0]

    def curvature_and(self, *right: Tensor) -> tuple[Tensor, ...]:
        """Returns H, and for each of `right` `[latents, categories, any]` the system's inverse times it."""
        system, pull, empty = self.system()
        S = self.S.double()
        eta = trace(S) / torch.where(empty, 1, trace(self.P.double()))
        sides = [(S + eta * pull).mT, *right]  # the system is symmetric: the first answer is H^T
        solved = torch.linalg.solve(system, torch.cat(sides, dim=-1))
        H, *others = torch.where(empty, 0, solved).split([side.shape[-1] for side in sides], dim=-1)
        return (H + H.mT) / 2, *others

    def observe(self, pi: Tensor, z: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        S = torch.einsum("blk,blj->lkj", centred(g, pi), z - pi)
        pairs = torch.einsum("blk,blj->lkj", pi, pi)
        pairs.diagonal(dim1=-2, dim2=-1).zero_()
        return S, torch.diag_embed(pairs.sum(dim=-1)) - pairs  # sum pi (1 - pi) without cancellation near a vertex


def trace(A: Tensor) -> Tensor:
    """Traces `[latents, 1, 1]` of matrices `[latents, categories, categories]`."""
    return A.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[:, None, None]
