"""What members with a curvature between latents share: two control variates, and regressions that weigh them.

    estimate = e - kappa M_s u - nu (M_s theta - J_pi theta),   e = M_s (g - H z) + E M_s H z,   d = z - pi
    u_l = sum_{m != l} H_lm d_m, H_lm by the subclass
    kappa, nu = moving regressions, per latent, of e on n = M_s u and on n = M_s theta - J_pi theta:
        max(0, 1 - sum (e.n)^2 / (sum e.n)^2) sum e.n / sum (|n|^2 + eps N^2),   eps = 5e-4,
        sums over rows and steps;  N^2 = sum_m |H_lm|^2 / K^3 and |theta|^2 / K^2, the size of |n|^2 at an even pi

Both control variates have mean zero given the row: E[u_l | z_l] = 0, and E M_s theta = J_pi theta. So they take away
noise, that of the other latents' draws and that of a base above 0, and leave the expectation alone, whatever H_lm,
kappa and nu are: pooling them over unlike rows costs no bias. Why the logits: in a variational autoencoder with a
uniform prior the best posterior has logits -E[f | z_l] up to a constant, so that nu comes near -1 as training goes on;
elsewhere the regression decides. The factor takes back what a few rows alone say, eps what settled rows say of open
ones: without them a batch of settled rows sets coefficients of thousands, and the first open row pays for it.
"""

from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ils_lightning.estimators.family import Curved, Draws, delta, full_precision, product, rows
from ils_lightning.estimators.regression import moments

SMALLEST_SHARE = 5e-4
"""Of what a regressor comes to at open rows; where it was less, rows were too settled to say anything of open ones."""


class ReadCoupled(Protocol):
    """What an estimate takes from the state.

    Attributes:
        H: curvature of each latent, a matrix or a diagonal.
        weight: kappa and nu `[2, latents, 1]`.
    """

    @property
    def H(self) -> Tensor: ...  # noqa: N802
    @property
    def weight(self) -> Tensor: ...

    def noise(self, d: Tensor) -> Tensor:
        """u_l = sum over m != l of H_lm d_m, like d `[*batch, latents, categories]`."""
        ...

    def between(self) -> Tensor:
        """Sum over m != l of |H_lm|^2 `[latents]`."""
        ...


class Coupled(Curved):
    """A member of the curved family without the noise of the other latents' draws, and nearly without its base's."""

    _abstract = True

    def known(self, pi: Tensor) -> ReadCoupled:
        """What is read from the state, anew only where that has changed."""
        raise NotImplementedError(f"{type(self).__name__} must define known(pi)")

    def taught(self, draws: Draws, known: ReadCoupled, others: Tensor, own: Tensor) -> tuple[Tensor, ...]:
        """Returns a step's sums for `learn`, save those of the regressions, which come last.

        Args:
            draws: the step's.
            known: what its estimate read.
            others: g less what the logits guess, `[rows, latents, categories]`, from which H_lm is learnt.
            own: that less the noise of other latents, from which H is learnt.
        """
        raise NotImplementedError(f"{type(self).__name__} must define taught(draws, known, others, own)")

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        with torch.no_grad(), full_precision(pi):
            known = self.known(pi)
            R, H, (kappa, nu) = self.at(logits, pi, z), known.H, known.weight
            u, theta = known.noise(z - pi), guess(logits, pi)
            estimate = R(g - product(H, z) - kappa * u - nu * theta) + R.explained(H) + nu * R.mean(theta)
            if self.training and self.due():
                self.learn_later(pi, partial(self.study_coupled, known, logits, pi, z, g, estimate))
        return estimate

    def study_coupled(
        self, known: ReadCoupled, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor, estimate: Tensor, counted: Tensor
    ) -> None:
        """Learns the curvatures from g less the guesses of everything else, and the regressions."""
        with torch.no_grad(), full_precision(pi):
            draws, R, (kappa, nu) = Draws.of(pi, z, g, counted), self.at(logits, pi, z), known.weight
            u, theta = known.noise(z - pi), guess(logits, pi)
            noise = torch.stack([R(u), R(theta) - R.mean(theta)])
            others = draws.g - rows(nu * theta)
            sums = self.taught(draws, known, others, others - rows(kappa * u))
            least = SMALLEST_SHARE * reach(known.between(), theta, pi)
            self.update(draws.squares(), *sums, moments(estimate, noise, known.weight, least, draws.number))


def guess(logits: Tensor, pi: Tensor) -> Tensor:
    """The logits, centred, and 0 where `pi` is."""
    theta = torch.where(pi > 0, logits.to(pi.dtype), 0)
    return torch.where(pi > 0, delta(theta, pi), 0)


def reach(curved: Tensor, theta: Tensor, pi: Tensor) -> Tensor:
    """N^2 of both regressors `[2, *batch, latents]`: the square of what they would come to at an even pi."""
    K = (pi > 0).sum(dim=-1).clamp(min=1)
    return torch.stack([curved / K**3, theta.square().sum(dim=-1) / K**2])
