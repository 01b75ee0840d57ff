"""ILS with the joint curvature of all latents, and the row's own logits as a guess of its gradient (this project).

    estimate_l = M_s (g_l - H_ll z_l - u_l - a_l) + J_pi a_l + 1/2 J_pi diag H_ll,   d = z - pi
    u_l = kappa_l sum_{m != l} H_lm d_m,   a_l = nu_l theta_l
    T = moving sum of (g - H z - a)_l d_m^T, l != m, over rows, steps and ranks;   H_lm = sym of T_lm A_m^-1
    kappa, nu = moving regressions, per latent, of J_pi (g - H z) on J_pi sum_m H_lm d_m and on J_pi theta

H_ll and A_m, the regularised moving sum of J_pi, are those of `ILSNewton`. Given z_l, u_l has mean zero; and M_s a_l
has mean J_pi a_l. So u and a take away noise, that of the other latents' draws and that of the base, and leave the
expectation alone, whatever H_lm, kappa and nu are: pooling them over unlike rows costs no bias. Why the logits: in a
variational autoencoder with a uniform prior, the best posterior has logits -E[f | z_l] up to a constant, so that nu
comes near -1 as training goes on; elsewhere the regression decides.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option, per_row
from ils_lightning.estimators.family import J, delta, full_precision, product, rows
from ils_lightning.estimators.ils_newton import ILSNewton, centred


class ILSJoint(ILSNewton):
    """`ILSNewton` without the noise of the other latents' draws, and nearly without that of a base above 0.

    For several latents that meet in one loss, as in an autoencoder. Its expectation is `ILSNewton`'s. The state has
    (latents x categories)^2 numbers, so it is meant for up to about a thousand of those.

    Args:
        decay: weight of the past in the moving sums, in [0, 1).
        ridge: as in `ILSNewton`.
        base: s of the step's base pi + s d: 0 has the least variance, 1 the least bias.

    Example:
        >>> import torch
        >>> logits = torch.zeros(64, 2, 3, requires_grad=True)
        >>> estimator = ILSJoint()
        >>> for step in range(3):
        ...     estimator(logits, nu z: z[..., 0].sum(-1).square()).sum().backward()
        >>> estimator.T.shape
        torch.Size([6, 6])
    """

    statistics = ("S", "P", "T", "fit")
    T: Tensor
    fit: Tensor

    def __init__(self, decay: float = 0.9, ridge: float = 0.01, base: Option = 0.5) -> None:
        super().__init__(decay, ridge, base)

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        joint = latents * categories
        return (*super().shapes(latents, categories), (joint, joint), (2, 2, latents, 1))

    def joint_curvature(self) -> Tensor:
        """Reads the blocks H_lm between latents, `[latents * categories, latents * categories]`."""
        latents, categories, _ = self.P.shape
        system, _, empty = self.system()
        right = self.T.double().unflatten(1, (latents, categories)).permute(1, 2, 0)
        H = torch.where(empty, 0, torch.linalg.solve(system, right)).flatten(0, 1)
        return (H + H.mT) / 2

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        with torch.no_grad(), full_precision(pi):
            self.prepare(pi)
            H = self.curvature().to(pi.dtype)
            u = ((z - pi).flatten(-2) @ self.joint_curvature().to(pi.dtype)).view_as(pi)
            theta = torch.where(pi > 0, logits.to(pi.dtype), 0)
            theta = torch.where(pi > 0, delta(theta, pi), 0)
            covariance, square = self.fit
            kappa, nu = torch.where(square > 0, covariance / square.clamp(min=1e-300), 0).to(pi.dtype)
            a = nu * theta
            estimate = self.step(pi, z, g - kappa * u - a, H, per_row(self.base, pi)) + J(pi, a)
            if self.training:
                g = torch.where(pi > 0, g, 0)
                known = [rows(x) for x in (pi, z, g - kappa * u - a)]
                self.update(*self.observe(*known), *self.relate(pi, z, g - product(H, z), u, theta, a))
        return estimate

    def relate(self, pi: Tensor, z: Tensor, rest: Tensor, u: Tensor, theta: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over rows of the products between latents, and of what u and theta explain of g - H z."""
        latents, categories = pi.shape[-2:]
        left, d = rows(centred(rest - a, pi)).flatten(1), rows(z - pi).flatten(1)
        T = (left.mT @ d).view(latents, categories, latents, categories)
        T.diagonal(dim1=0, dim2=2).zero_()
        target, regressors = rows(J(pi, rest)), torch.stack([rows(J(pi, u)), rows(J(pi, theta))])
        moments = torch.stack([target * regressors, regressors.square()]).sum(dim=-1, keepdim=True).sum(dim=2)
        return T.view(latents * categories, -1), moments
