"""ILS with the joint curvature of all latents, and the row's own logits as a guess of its gradient (this project).

    e = M_s (g - H z) + 1/2 J_pi diag H, as `ILSNewton`;   d = z - pi
    u_l = sum_{m != l} H_lm d_m;   H_lm = sym of T_lm A_m^-1, T = moving sum of the rest of g_l times d_m
    estimate = e - kappa M_s u - nu (M_s theta - J_pi theta)
    kappa, nu = moving regressions, per latent, of e on n = M_s u and on n = M_s theta - J_pi theta:
        max(0, 1 - sum (e.n)^2 / (sum e.n)^2) sum e.n / sum (|n|^2 + eps N^2),   eps = 5e-4,
        sums over rows and steps;  N^2 = sum_m |H_lm|^2 / K^3 and |theta|^2 / K^2, the size of |n|^2 at an even pi

A_m, the regularised moving sum of J_pi, is that of `ILSNewton`. Both control variates have mean zero given the row:
E[u_l | z_l] = 0, and E M_s theta = J_pi theta. So they take away noise, that of the other latents' draws and that of a
base above 0, and leave the expectation alone, whatever H_lm, kappa and nu are: pooling them over unlike rows costs no
bias. Why the logits: in a variational autoencoder with a uniform prior the best posterior has logits -E[f | z_l] up to
a constant, so that nu comes near -1 as training goes on; elsewhere the regression decides. The factor takes back what
a few rows alone say, eps what settled rows say of open ones: without them a batch of settled rows sets coefficients of
thousands, and the first open row pays for it.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option
from ils_lightning.estimators.family import Draws, centred, delta, full_precision, product, rows
from ils_lightning.estimators.ils_newton import ILSNewton
from ils_lightning.estimators.regression import coefficients, moments

SMALLEST_SHARE = 5e-4
"""Of what a regressor comes to at open rows; where it was less, rows were too settled to say anything of open ones."""


class ILSJoint(ILSNewton):
    """`ILSNewton` without the noise of the other latents' draws, and nearly without that of a base above 0.

    For several latents that meet in one loss, as in an autoencoder. Its expectation is `ILSNewton`'s. The state has
    (latents x categories)^2 numbers, so it is meant for up to about a thousand of those; each layer needs its own
    instance.

    Args:
        decay: weight of the past in the moving sums, in [0, 1).
        ridge: as in `ILSNewton`.
        base: s of the step's base pi + s d: 0 has the least variance, 1 the least bias.

    Example:
        >>> import torch
        >>> logits = torch.zeros(64, 2, 3, requires_grad=True)
        >>> estimator = ILSJoint()
        >>> for step in range(3):
        ...     estimator(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
        >>> estimator.T.shape
        torch.Size([6, 6])
    """

    equation = r"""
        e &= M_s (g - H z) + \tfrac{1}{2} J_\pi \operatorname{diag} H \\
        d &= z - \pi \quad \text{(as ILSNewton)} \\
        u_l &= \sum_{m \ne l} H_{lm} d_m \\
        H_{lm} &= \operatorname{sym}(T_{lm} A_m^{-1}) \\
        \kappa, \nu &= \max\left(0, 1 - \frac{\langle (e \cdot n)^2 \rangle}{\langle e \cdot n \rangle^2}\right)
            \frac{\langle e \cdot n \rangle}{\langle \lVert n\rVert^2 + \varepsilon N^2 \rangle} \\
        & \text{with } n = M_s u \text{ and } n = M_s \theta - J_\pi \theta \\
        \hat\nabla &= e - \kappa \, M_s u - \nu \, (M_s \theta - J_\pi \theta)
    """

    statistics = ("S", "P", "T", "fit")
    latent_axis: ClassVar[dict[str, int]] = {"fit": 2}
    T: Tensor
    fit: Tensor

    def __init__(self, decay: float = 0.9, ridge: float = 0.01, base: Option = 0.5) -> None:
        super().__init__(decay, ridge, base)

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        joint = latents * categories
        return (*super().shapes(latents, categories), (joint, joint), (3, 2, latents, 1))

    def curvatures(self) -> tuple[Tensor, Tensor]:
        """Reads H, and the blocks H_lm between latents, `[latents * categories, latents * categories]`."""
        latents, categories, _ = self.P.shape
        H, blocks = self.curvature_and(self.T.double().unflatten(1, (latents, categories)).permute(1, 2, 0))
        joint = blocks.flatten(0, 1)
        return H, (joint + joint.mT) / 2

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        with torch.no_grad(), full_precision(pi):
            self.prepare(pi)
            H, H_joint = (matrix.to(pi.dtype) for matrix in self.curvatures())
            d, R = z - pi, self.at(logits, pi, z)
            u = (d.flatten(-2) @ H_joint).view_as(pi)
            theta = torch.where(pi > 0, logits.to(pi.dtype), 0)
            theta = torch.where(pi > 0, delta(theta, pi), 0)
            noise = torch.stack([R(u), R(theta) - R.mean(theta)])
            weight = coefficients(self.fit).to(pi.dtype)
            kappa, nu = weight
            estimate = R(g - product(H, z)) + R.explained(H) - kappa * noise[0] - nu * noise[1]
            if self.training:
                added, known = kappa * u + nu * theta, kappa * u - product(H, z)
                fit = partial(moments, estimate, noise, weight, SMALLEST_SHARE * reach(H_joint, theta, pi))
                self.learn_later(pi, lambda counted: self.study_jointly(Draws.of(pi, z, g, counted), added, known, fit))
        return estimate

    def study_jointly(self, draws: Draws, added: Tensor, known: Tensor, fit: Callable[[Tensor], Tensor]) -> None:
        """Learns S and P from g less what is `added`, T from that plus what is `known`, both like the logits."""
        rest = draws.g - rows(added)
        T = self.between(centred(rest + rows(known), draws.pi), draws.z - draws.pi)
        self.update(draws.squares(), *self.observe(draws.pi, draws.z, rest), T, fit(draws.number))

    def between(self, rest: Tensor, d: Tensor) -> Tensor:
        """Sums over `[rows, latents, categories]` the products of g's rest in one latent with d in another."""
        T = rest.flatten(1).mT @ d.flatten(1)
        blocks = T.view(*rest.shape[-2:], *rest.shape[-2:])
        blocks.diagonal(dim1=0, dim2=2).zero_()
        return T


def reach(H: Tensor, theta: Tensor, pi: Tensor) -> Tensor:
    """N^2 of both regressors `[2, *batch, latents]`: the square of what they would come to at an even pi."""
    K = (pi > 0).sum(dim=-1).clamp(min=1)
    curved = H.square().view(*theta.shape[-2:], -1).sum(dim=(1, 2))
    return torch.stack([curved / K**3, theta.square().sum(dim=-1) / K**2])
