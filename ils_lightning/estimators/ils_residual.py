"""REINFORCE on the residual of a model of f that gradients build (this project).

    m(z) = c + kappa a.(z - pi), a = pooled mean of g - H z + 1/2 diag H, H the pooled curvature
    estimate = (f(z) - m(z)) d + kappa J_pi a,   d = z - pi

Unbiased for every f: m does not see the present draw, and E (a.d) d = J_pi a. For f quadratic in one latent a is
f at the vertices, up to a constant. c is the moving average of f, kappa the moving regression of f - c on a.d, in
[0, 1]: zero before anything is known, one where rows agree.

The row's own gradient can do no more. Values and gradients of f at the one-hot points are free of each other, so
let estimate = f(z) d + r(z, f(z), g(z)). If E r = sum_k pi_k r(e_k, f_k, g_k) vanishes for every table (f_k, g_k),
then each term is constant in its table: r depends on z alone. An estimate with one evaluation that is unbiased for
every f is REINFORCE plus a zero-mean function of the draw, and only other rows and steps may choose that function.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Estimator, Loss
from ils_lightning.estimators.categorical import draw, softmax
from ils_lightning.estimators.compiling import ASKS_DERIVATIVES
from ils_lightning.estimators.family import Draws, J, diagonal, full_precision, product
from ils_lightning.estimators.ils_diagonal import ILSDiagonal
from ils_lightning.estimators.learnt import Learnt
from ils_lightning.estimators.loss import loss_and_slope


class ILSResidual(Learnt, Estimator):
    """Unbiased from one evaluation, with the control variate that pooled gradients and curvature give.

    It helps where rows share their loss: a tenth of the variance of REINFORCE with a moving average, a third of
    ReinMax's. Where rows differ it gains five per cent, and nothing unbiased with one evaluation can use the row's own
    gradient. Each layer needs its own instance. Prefer `ILSLeaveOneOut` when two evaluations can be afforded,
    `ILSNewton` when a bias can.

    Args:
        decay: weight of the past in the moving sums, in [0, 1).

    Example:
        >>> import torch
        >>> logits = torch.zeros(64, 1, 3, requires_grad=True)
        >>> loss = ILSResidual()(logits, lambda z: z[..., 0].square().sum(-1))
        >>> loss.sum().backward()
    """

    unbiased = True
    exact_for = "all"
    needs_gradient = True
    uncompiled = ASKS_DERIVATIVES
    pooled = True
    pooled_by_state = True
    source = "this project"
    equation = r"""
        d &= z - \pi \\
        a &= \langle g - H z + \tfrac{1}{2} \operatorname{diag} H \rangle \\
        m(z) &= c + \kappa \, a \cdot (z - \pi) \\
        \hat\nabla &= \left(f(z) - m(z)\right) d + \kappa \, J_\pi a
    """
    statistics = ("a", "totals")
    a: Tensor
    totals: Tensor

    def __init__(self, decay: float = 0.9) -> None:
        super().__init__()
        self.declare(decay)
        self.curvature = ILSDiagonal(decay)

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        return (latents, categories), (4,)

    def parts(self, latents: int) -> int:
        return latents + 1  # each latent's gradient, and the loss

    def _along(self, mask: Tensor, name: str) -> Tensor:
        del name
        return mask.all()  # the statistics explain one loss together

    def build(self, latents: int, categories: int) -> None:
        super().build(latents, categories)
        self.curvature.build(latents, categories)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = softmax(logits.detach())
        z = draw(pi)
        loss, g = (x.squeeze(0) for x in loss_and_slope("ILSResidual", f, z.to(logits.dtype).unsqueeze(0)))
        with torch.no_grad(), full_precision(pi):
            estimate = self._residual(pi, z, loss.detach().to(pi.dtype), g.to(pi.dtype))
        return loss, estimate.to(logits.dtype)

    def _residual(self, pi: Tensor, z: Tensor, loss: Tensor, g: Tensor) -> Tensor:
        self.prepare(pi)
        count, total, covariance, square = self.totals.to(pi.dtype)
        known = count > 0
        a = torch.where(known, self.a.to(pi.dtype) / count.clamp(min=1e-30), 0)
        c = torch.where(known, total / count.clamp(min=1e-30), 0)
        kappa = torch.where(square > 0, covariance / square.clamp(min=1e-30), 0).clamp(min=0, max=1)
        d = z - pi
        explained = (a * d).sum(dim=(-2, -1))
        estimate = (loss - c - kappa * explained)[..., None, None] * d + kappa * J(pi, a)
        if self.training:
            covariance = torch.where(known, (loss - c) * explained, 0)
            values = torch.stack([loss, covariance, explained], dim=-1).reshape(-1, 3)
            self.learn_later(pi, lambda counted: self._study(Draws.of(pi, z, g, counted), values))
        return estimate

    def _study(self, draws: Draws, values: Tensor) -> None:
        """Learns from draws and their loss, its product with what is explained, and that `[rows, 3]`."""
        self.curvature.prepare(draws.pi)
        H, g = self.curvature.curvature().to(draws.g.dtype), draws.g - draws.g.mean(dim=-1, keepdim=True)
        a = draws.only(g - product(H, draws.z) + diagonal(H) / 2).sum(dim=0)
        loss, covariance, explained = draws.only(values).unbind(dim=-1)
        squares = draws.squares()
        of_loss = torch.stack([loss.double().square().sum(), squares[1, 0]])
        totals = [draws.number.sum(), loss.sum(), covariance.sum(), explained.square().sum()]
        self.update(torch.cat([squares, of_loss.unsqueeze(-1)], dim=-1), a, torch.stack(totals))
        self.curvature.study(draws)
