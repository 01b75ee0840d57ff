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

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option
from ils_lightning.estimators.distributed import sum_over_ranks
from ils_lightning.estimators.family import delta, full_precision, product, rows
from ils_lightning.estimators.ils_newton import ILSNewton, centred

SMALLEST_SHARE = 5e-4
"""Of what a regressor comes to at open rows; where it was less, rows were too settled to say anything of open ones."""


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
        ...     estimator(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
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
        return (*super().shapes(latents, categories), (joint, joint), (3, 2, latents, 1))

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
            H, d, R = self.curvature().to(pi.dtype), z - pi, self.at(logits, pi, z)
            H_joint = self.joint_curvature().to(pi.dtype)
            u = (d.flatten(-2) @ H_joint).view_as(pi)
            theta = torch.where(pi > 0, logits.to(pi.dtype), 0)
            theta = torch.where(pi > 0, delta(theta, pi), 0)
            noise = torch.stack([R(u), R(theta) - R.mean(theta)])
            weight = coefficients(self.fit).to(pi.dtype)
            kappa, nu = weight
            estimate = R(g - product(H, z)) + R.explained(H) - kappa * noise[0] - nu * noise[1]
            if self.training:
                rest = torch.where(pi > 0, g, 0) - kappa * u - nu * theta
                S_and_P = self.observe(rows(pi), rows(z), rows(rest))
                T = self.between(centred(rest + kappa * u - product(H, z), pi), d)
                self.update(*S_and_P, T, moments(estimate, noise, weight, reach(H_joint, theta, pi)))
        return estimate

    def between(self, rest: Tensor, d: Tensor) -> Tensor:
        """Sums over rows the products of g's rest in one latent with d in another."""
        T = rows(rest).flatten(1).mT @ rows(d).flatten(1)
        blocks = T.view(*rest.shape[-2:], *rest.shape[-2:])
        blocks.diagonal(dim1=0, dim2=2).zero_()
        return T


def reach(H: Tensor, theta: Tensor, pi: Tensor) -> Tensor:
    """N^2 of both regressors `[2, *batch, latents]`: the square of what they would come to at an even pi."""
    K = (pi > 0).sum(dim=-1).clamp(min=1)
    curved = H.square().view(*theta.shape[-2:], -1).sum(dim=(1, 2))
    return torch.stack([curved / K**3, theta.square().sum(dim=-1) / K**2])


def coefficients(fit: Tensor) -> Tensor:
    """Of both regressions `[2, latents, 1]`, from their moving sums `[3, 2, latents, 1]` (see `moments`)."""
    product, square, noise = fit
    shrink = (1 - noise / product.square().clamp(min=1e-300)).clamp(min=0)
    return torch.where(square > 0, shrink * product / square.clamp(min=1e-300), 0)


def moments(estimate: Tensor, noise: Tensor, weight: Tensor, most: Tensor) -> Tensor:
    """Sums over rows `[3, 2, latents, 1]` behind the regressions on `noise` `[2, *batch, latents, categories]`.

    They are the products with the estimate, the squares (with their share of `most`, `[2, *batch, latents]`), and the
    squared products.
    """
    regressors = torch.stack([rows(x) for x in noise])
    targets = rows(estimate) + weight.unsqueeze(1) * regressors  # the estimate without this control variate
    total, count = sum_over_ranks(targets.sum(dim=1, keepdim=True)), sum_over_ranks(noise.new_tensor(targets.shape[1]))
    targets = targets - total / count.clamp(min=1)  # what all rows share is no noise, and E noise = 0
    product = (targets * regressors).sum(dim=-1, keepdim=True)
    square = regressors.square().sum(dim=-1) + SMALLEST_SHARE * most.reshape(*regressors.shape[:-1])
    return torch.stack([product, square.unsqueeze(-1), product.square()]).sum(dim=2)
