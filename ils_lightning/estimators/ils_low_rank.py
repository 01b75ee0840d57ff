"""ILS with a curvature between latents of low rank: memory and time linear in latents x categories (this project).

    e = M_s (g - h z) + 1/2 J_pi h, as `ILSDiagonal`;   d = z - pi
    c_l = sum_{m != l} V_m^T d_m,   u_l = W_l c_l
    W_l = Y_l (C_l + (tr C_l / 1000 r) I)^-1,   Y_l, C_l = moving sums of (the rest of g_l) c_l^T and of c_l c_l^T
    V <- Q, an orthonormal basis of the span of all W_l, stacked;   Y, C <- Y M, M^T C M,   M = V^T Q of the former V
    estimate = e - kappa M_s u - nu (M_s theta - J_pi theta), as in `coupled`

H_lm = W_l V_m^T. With V fixed, W is the regression of what is left of g on r features of the other latents' draws. For
a quadratic loss W = H A V (V^T A V)^-1 where A is the covariance of d: each step of V is one of the power iteration
for the r largest eigenvalues of H A, as subspace, without A or its inverse. M says what the former features tell of the
new ones, so that the moving sums turn along. As c_l leaves out the latent's own draw, the expectation is that of
`ILSDiagonal` whatever V is.
"""

from functools import lru_cache, partial
from typing import ClassVar

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option
from ils_lightning.estimators.coupled import Coupled, ReadCoupled
from ils_lightning.estimators.family import SMALLEST_TRACE, Draws, full_precision, product, rows
from ils_lightning.estimators.ils_diagonal import ILSDiagonal
from ils_lightning.estimators.regression import coefficients

RIDGE = 1e-3
"""Of the mean square of the features."""


class ILSLowRank(Coupled, ILSDiagonal):
    """`ILSDiagonal` without the noise of the other latents' draws, as far as few directions of their space explain it.

    For many latents that meet in one loss, where the state of `ILSJoint`, the square of latents x categories, is too
    large or too slow. Its expectation is `ILSDiagonal`'s. Each layer needs its own instance.

    Args:
        decay: weight of the past in the moving sums, in [0, 1).
        rank: number of directions, at most latents x (categories - 1).
        base: s of the step's base pi + s d: 0 has the least variance, 1 the least bias; above 1 both grow.
        every: as in `ILSNewton`.

    Raises:
        ValueError: when an option is out of its range.

    Example:
        >>> import torch
        >>> logits = torch.zeros(64, 200, 8, requires_grad=True)
        >>> estimator = ILSLowRank()
        >>> for step in range(3):
        ...     estimator(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
        >>> estimator.V.shape
        torch.Size([200, 8, 8])
    """

    equation = r"""
        e &= M_s (g - h z) + \tfrac{1}{2} J_\pi h, \quad d = z - \pi \quad \text{(as ILSDiagonal)} \\
        c_l &= \sum_{m \ne l} V_m^\top d_m, \quad u_l = W_l c_l \\
        W_l &= Y_l \left(C_l + \tfrac{\operatorname{tr} C_l}{1000 r} I\right)^{-1} \\
        Y_l &= \langle (g - h z - \nu \theta)_l \, c_l^\top \rangle, \quad C_l = \langle c_l \, c_l^\top \rangle \\
        V &\leftarrow Q, \quad Q R = W \\
        \hat\nabla &= e - \kappa \, M_s u - \nu \, (M_s \theta - J_\pi \theta), \quad \kappa, \nu \text{ as in ILSJoint}
    """

    statistics = ("h", "D", "V", "Y", "C", "fit")
    latent_axis: ClassVar[dict[str, int]] = {"fit": 2}
    V: Tensor
    Y: Tensor
    C: Tensor
    fit: Tensor

    def __init__(self, decay: float = 0.9, rank: int = 8, base: Option = 0.5, every: int = 1) -> None:
        super().__init__(decay, base)
        self.rank = self.whole("rank", rank, 1)
        self.every = self.whole("every", every, 1)

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        r = min(self.rank, max(1, latents * (categories - 1)))  # what is centred has no more directions
        of_rank = (latents, categories, r), (latents, categories, r), (latents, r, r), (3, 2, latents, 1)
        return *super().shapes(latents, categories), *of_rank

    def known(self, pi: Tensor) -> "ReadLowRank":
        """What is read from the state, anew only where that has changed."""
        self.prepare(pi)
        return self.reading(pi.dtype, make=partial(self.read, pi))

    def read(self, like: Tensor) -> "ReadLowRank":
        """Reads what the estimate takes from the state, in the dtype of `like`."""
        with torch.no_grad(), full_precision(like):
            found = self.h, self.V, regressed(self.Y, self.C), coefficients(self.fit)
        return ReadLowRank(*(x.to(like.dtype) for x in found))

    def taught(self, draws: Draws, known: ReadCoupled, others: Tensor, own: Tensor) -> tuple[Tensor, ...]:
        c = features(self.V.to(draws.pi.dtype), draws.z - draws.pi)
        rest = draws.centre(others - product(known.H, draws.z))
        Y, C = torch.bmm(rest.permute(1, 2, 0), c), torch.bmm(c.mT, c)
        return *self.observe(draws.pi, draws.z, own), Y, C

    def learn(self, *sums: Tensor) -> tuple[Tensor, ...]:
        own, Y, C, fit = sums[:2], *sums[2:]
        Y, C = self.past * self.Y + Y, self.past * self.C + C
        W = regressed(Y, C).flatten(0, 1)
        Q = torch.where(W.any(), torch.linalg.qr(W).Q, some_basis(W))
        M = self.V.flatten(0, 1).mT @ Q
        return *super().learn(*own), Q.view_as(self.V), Y @ M, M.mT @ C @ M, self.past * self.fit + fit


class ReadLowRank:
    """What an estimate takes from the state of `ILSLowRank`.

    Args:
        h: curvature of each latent, a diagonal `[latents, categories]`.
        V: directions `[latents, categories, rank]`.
        W: what each latent's gradient answers to them, alike.
        weight: kappa and nu `[2, latents, 1]`.
    """

    def __init__(self, h: Tensor, V: Tensor, W: Tensor, weight: Tensor) -> None:
        self.H, self.V, self.W, self.weight = h, V, W, weight

    def noise(self, d: Tensor) -> Tensor:
        """u_l = W_l c_l, like d `[*batch, latents, categories]`."""
        return torch.bmm(features(self.V, rows(d)), self.W.mT).transpose(0, 1).reshape(d.shape)

    def between(self) -> Tensor:
        """Sum over m != l of |W_l V_m^T|^2 `[latents]`, all columns of V being orthonormal."""
        V, W = self.V, self.W
        others = torch.eye(V.shape[-1], dtype=V.dtype, device=V.device) - V.mT @ V
        return (W.mT @ W * others).sum(dim=(1, 2))


def features(V: Tensor, d: Tensor) -> Tensor:
    """c_l = sum over m != l of V_m^T d_m `[latents, rows, rank]`, for d `[rows, latents, categories]`."""
    each = torch.bmm(d.transpose(0, 1), V)
    return each.sum(dim=0) - each


def regressed(Y: Tensor, C: Tensor) -> Tensor:
    """W `[latents, categories, rank]`; 0 where there is nothing to learn from."""
    size = C.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[:, None, None]
    eye = torch.eye(C.shape[-1], dtype=C.dtype, device=C.device)
    W = torch.linalg.solve(C + (RIDGE * size).clamp(min=SMALLEST_TRACE) * eye, Y.mT).mT
    return torch.where(size > SMALLEST_TRACE, W, 0)


def some_basis(like: Tensor) -> Tensor:
    """An orthonormal basis to begin with, always the same, like W `[latents * categories, rank]`."""
    return _basis(*like.shape, like.dtype, like.device)


@lru_cache(maxsize=8)
def _basis(size: int, rank: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    chance = torch.Generator().manual_seed(0)
    begun = torch.randn(size, rank, generator=chance, dtype=torch.float64, device="cpu")
    return torch.linalg.qr(begun).Q.to(device, dtype)
