"""ReinMaxCV: which Gumbel terms are paired, and what another pairing does to the mean."""

from collections.abc import Callable

import pytest
import torch
from problems import Problem, mlp, quadratic, states
from simulate import Moments, worst, worst_score
from torch import Tensor

from ils_lightning.estimators import ReinMax
from ils_lightning.estimators.categorical import gumbel, jacobian, one_hot, softmax
from ils_lightning.estimators.gumbel_rao import rao

ETA, ROWS = 0.7, 40_000
Second = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]


def theta_d(pi: Tensor, z: Tensor) -> Tensor:
    return torch.log((pi + z) / 2)


def slope(f: Callable, z: Tensor) -> Tensor:
    leaf = z.detach().requires_grad_()
    return torch.autograd.grad(f(leaf).sum(), leaf)[0]


def expectation(problem: Problem) -> Tensor:
    """E of ReinMax's estimate, by enumeration."""
    z = states(*problem.logits.shape)
    p = (z * problem.logits.log_softmax(dim=-1)).sum(dim=(-2, -1)).exp()
    pi = problem.logits.softmax(dim=-1).expand_as(z)
    return torch.einsum("n,nlk->lk", p, ReinMax().pullback(problem.logits, pi, z, slope(problem.loss(), z)))


def conditioned(theta: Tensor, noise: Tensor, z: Tensor, g: Tensor, tau: float) -> Tensor:
    """The pairing that is shipped: noise of its own, given the draw."""
    del noise
    return rao(theta_d(softmax(theta), z), z, g, tau, 1)


def relaxed_draw(theta: Tensor, noise: Tensor, z: Tensor, g: Tensor, tau: float) -> Tensor:
    """The released pairing: the relaxed draw where the noise should be."""
    y = softmax((theta + noise) / tau)
    return jacobian(softmax(theta_d(softmax(theta), z) + y), g) / tau


def own_noise(theta: Tensor, noise: Tensor, z: Tensor, g: Tensor, tau: float) -> Tensor:
    """The noise that made the draw."""
    return jacobian(softmax((theta_d(softmax(theta), z) + noise) / tau), g) / tau


def estimates(problem: Problem, second: Second, tau: float) -> tuple[Tensor, Tensor]:
    """ReinMax's estimates, and those with eta times the difference of the two Gumbel terms."""
    theta = problem.logits.expand(ROWS, -1, -1)
    noise = gumbel(theta)
    z = one_hot((theta + noise).argmax(dim=-1), theta)
    g, pi = slope(problem.loss(), z), softmax(theta)
    plain = ReinMax().pullback(theta, pi, z, g)
    return plain, plain + ETA * (rao(theta_d(pi, z), z, g, tau, 30) - second(theta, noise, z, g, tau))


@pytest.mark.slow
@pytest.mark.parametrize("tau", [0.5, 1.0])
@pytest.mark.parametrize("problem", [mlp(2, 5), quadratic(2, 5)], ids=lambda problem: problem.name)
@pytest.mark.parametrize(
    ("second", "exact", "variance"),
    [(conditioned, True, (1.08, 1.7)), (relaxed_draw, False, (0.4, 0.95)), (own_noise, False, (1.3, 2.0))],
)
def test_only_noise_given_the_draw_keeps_the_expectation_of_reinmax(problem, tau, second, exact, variance):
    plain, found = estimates(problem, second, tau)
    moments = Moments()
    moments.add(found)
    assert (worst(moments, expectation(problem)) < 1) == exact
    ratio = found.var(dim=0).sum() / plain.var(dim=0).sum()
    assert variance[0] < ratio < variance[1]


@pytest.mark.parametrize(("shift", "same"), [(0.0, True), (0.3, False)])
@pytest.mark.parametrize("drawn", [0, 3])
def test_both_terms_have_the_mean_of_straight_through_gumbel_softmax_given_the_draw(drawn, shift, same):
    pi, g, tau, count = torch.tensor([0.1, 0.4, 0.2, 0.3]).double(), torch.randn(4).double(), 0.7, 100_000
    z = torch.eye(4, dtype=torch.float64)[drawn]
    theta = theta_d(pi, z)
    free = theta + gumbel(theta.expand(2 * count, -1))
    kept = free[free.argmax(dim=-1) == drawn]
    terms = [jacobian(softmax((kept + shift * z) / tau), g) / tau]  # by rejection, apart from the formula for the noise
    terms += [rao(theta.expand(count, 1, -1), z.expand(count, 1, -1), g, tau, R).squeeze(1) for R in (1, 10)]
    means = [x.mean(dim=0) for x in terms]
    errors = [(x.var(dim=0) / len(x)) for x in terms]
    for mean, error in zip(means[1:], errors[1:], strict=True):
        score = worst_score(mean - means[0], (error + errors[0]).sqrt(), scale=means[0].abs())
        assert (score < 1) == same
