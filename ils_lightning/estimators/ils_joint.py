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

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option
from ils_lightning.estimators.categorical import difference, one_hot
from ils_lightning.estimators.family import Draws, Read, delta, full_precision, product, rows
from ils_lightning.estimators.ils_newton import ILSNewton, symmetric
from ils_lightning.estimators.regression import coefficients, moments

LEAST_LOGIT = -1e30
"""In the place of -inf, whose probability of 0 then leaves nothing of it."""
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
        every: as in `ILSNewton`.

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

    def __init__(self, decay: float = 0.9, ridge: float = 0.01, base: Option = 0.5, every: int = 1) -> None:
        super().__init__(decay, ridge, base, every)

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        joint = latents * categories
        return (*super().shapes(latents, categories), (joint, joint), (3, 2, latents, 1))

    def read(self, like: Tensor) -> "ReadJointly":
        with torch.no_grad(), full_precision(like):
            inverse, S = self.inverse()
            T = self.T.to(like.dtype).unflatten(1, S.shape[:2]).transpose(0, 1)
            joint = torch.bmm(T, inverse.to(like.dtype)).transpose(0, 1).flatten(1)
            H, weight = symmetric(S @ inverse).to(like.dtype), coefficients(self.fit).to(like.dtype)
        return ReadJointly(H, symmetric(joint), weight)

    def known(self, pi: Tensor) -> "ReadJointly":
        """What is read from the state, anew only where that has changed."""
        self.prepare(pi)
        return self.reading(self.ridge, pi.dtype, make=partial(self.read, pi))

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        with torch.no_grad(), full_precision(pi):
            known = self.known(pi)
            R, H, (kappa, nu) = self.at(logits, pi, z), known.H, known.weight
            u, theta = known.noise(z - pi), guess(logits, pi)
            estimate = R(g - product(H, z) - kappa * u - nu * theta) + R.explained(H) + nu * R.mean(theta)
            if self.training and self.due():
                lesson = partial(self.study_jointly, known, logits, pi, z, g, estimate)
                self.learn_later(pi, lesson)
        return estimate

    def rearranged(self, logits: Tensor, pi: Tensor, index: Tensor, g: Tensor) -> Tensor:
        """The same with H z + kappa u = (H and kappa H_lm) z - kappa H_lm pi, its first part looked up."""
        known = self.known(pi)
        places, size = index + known.first, index.shape[-1]
        bags = torch.arange(0, places.numel(), size, device=places.device)
        with full_precision(pi):
            looked_up = torch.embedding_bag(known.both, places.flatten(), bags)[0]
            rest = looked_up.addmm_(pi.reshape(looked_up.shape), known.other, alpha=-1).view(g.shape)
        theta = known.weight[1] * logits.to(pi.dtype).clamp(min=LEAST_LOGIT)
        estimate = self.stepped(logits, pi, index, difference(pi, g, rest.add_(theta)), known, theta)
        if self.training and self.due():
            pi, z = pi.contiguous(), one_hot(index, pi)
            self.learn_later(pi, partial(self.study_jointly, known, logits, pi, z, g, estimate))
        return estimate

    def study_jointly(
        self, known: "ReadJointly", logits: Tensor, pi: Tensor, z: Tensor, g: Tensor, estimate: Tensor, counted: Tensor
    ) -> None:
        """Learns S and P from g less the two guesses, T from g less the others, and the regressions."""
        with torch.no_grad(), full_precision(pi):
            draws, R, (kappa, nu) = Draws.of(pi, z, g, counted), self.at(logits, pi, z), known.weight
            u, theta = known.noise(z - pi), guess(logits, pi)
            noise = torch.stack([R(u), R(theta) - R.mean(theta)])
            rest = draws.g - rows(nu * theta)
            T = self.between(draws.centre(rest - rows(product(known.H, z))), draws.z - draws.pi)
            sums = self.moments(draws.pi, draws.z, draws.centre(rest - rows(kappa * u)))
            least = SMALLEST_SHARE * reach(known.joint, theta, pi)
            self.update(draws.squares(), *sums, T, moments(estimate, noise, known.weight, least, draws.number))

    def between(self, rest: Tensor, d: Tensor) -> Tensor:
        """Sums over `[rows, latents, categories]` the products of g's rest in one latent with d in another."""
        T = rest.flatten(1).mT @ d.flatten(1)
        blocks = T.view(*rest.shape[-2:], *rest.shape[-2:])
        blocks.diagonal(dim1=0, dim2=2).zero_()
        return T


class ReadJointly(Read):
    """With the curvature between latents.

    Args:
        H: as in `Read`.
        joint: H_lm, `[latents * categories, latents * categories]`.
        weight: kappa and nu `[2, latents, 1]`.

    Attributes:
        other: kappa H_lm, by drawn category, like `joint`.
        both: H and kappa H_lm, alike.
    """

    def __init__(self, H: Tensor, joint: Tensor, weight: Tensor) -> None:
        super().__init__(H)
        self.joint, self.weight = joint, weight
        blocks = joint.unflatten(1, H.shape[:2]) * weight[0]
        self.other, self.both = blocks.flatten(1), blocks.clone().flatten(1)
        self.both.view(*H.shape[:2], *H.shape[:2]).diagonal(dim1=0, dim2=2).copy_(H.permute(1, 2, 0))

    def noise(self, d: Tensor) -> Tensor:
        """u_l = sum over m != l of H_lm d_m, like d."""
        return (d.flatten(-2) @ self.joint).view_as(d)


def guess(logits: Tensor, pi: Tensor) -> Tensor:
    """The logits, centred, and 0 where `pi` is."""
    theta = torch.where(pi > 0, logits.to(pi.dtype), 0)
    return torch.where(pi > 0, delta(theta, pi), 0)


def reach(H: Tensor, theta: Tensor, pi: Tensor) -> Tensor:
    """N^2 of both regressors `[2, *batch, latents]`: the square of what they would come to at an even pi."""
    K = (pi > 0).sum(dim=-1).clamp(min=1)
    curved = H.square().view(*theta.shape[-2:], -1).sum(dim=(1, 2))
    return torch.stack([curved / K**3, theta.square().sum(dim=-1) / K**2])
