"""What the papers of the Gumbel-Rao and gapped straight-through estimators say of them."""

import pytest
import torch
from pathwise import frequency_score, mean_over_draws, per_draw, score, table, two_sample_score
from torch import Tensor

from ils_lightning.estimators import (
    DecoupledStraightThroughGumbelSoftmax,
    GappedStraightThrough,
    GumbelRao,
    ReinMax,
    ReinMaxCV,
    ReinMaxRao,
    Sampler,
    StraightThrough,
    StraightThroughGumbelSoftmax,
)
from ils_lightning.estimators.categorical import conditional_gumbel, jacobian, softmax

ROWS = 100_000


def estimates(estimator: Sampler, theta: Tensor, g: Tensor, rows: int = ROWS) -> Tensor:
    """Independent estimates `[rows, category]` of the loss whose df/dz at draw k is g[k]."""
    logits = theta.expand(rows, 1, -1).clone().requires_grad_()
    z = estimator.sample(logits)
    (z * (z.detach() @ g)).sum().backward()
    assert logits.grad is not None
    return logits.grad.squeeze(1)


class AddsLogitsTwice(GumbelRao):
    """Takes the perturbed logits for the noise alone."""

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        tau = float(self.temperature)
        return jacobian(softmax((logits + conditional_gumbel(logits, z)) / tau), g) / tau


def test_gumbel_rao_of_one_resample_is_straight_through_gumbel_softmax_in_law():
    theta, g = table(4)
    reference = estimates(StraightThroughGumbelSoftmax(temperature=0.5), theta, g)
    assert two_sample_score(estimates(GumbelRao(resamples=1, temperature=0.5), theta, g), reference) < 1
    assert two_sample_score(estimates(AddsLogitsTwice(resamples=1, temperature=0.5), theta, g), reference) > 1


def test_gumbel_rao_has_the_mean_of_straight_through_gumbel_softmax_and_less_variance():
    theta, g = table(4)
    many = estimates(GumbelRao(resamples=20, temperature=0.5), theta, g, rows=20_000)
    one = estimates(StraightThroughGumbelSoftmax(temperature=0.5), theta, g)
    error = (many.var(dim=0) / len(many) + one.var(dim=0) / len(one)).sqrt()
    assert ((many.mean(dim=0) - one.mean(dim=0)).abs() / error).max() < 4.5
    assert (many.var(dim=0) < 0.9 * one.var(dim=0)).all()


def test_gumbel_rao_approaches_reinmax_as_the_temperature_falls():
    theta, g = table(3)
    limit = mean_over_draws(theta, per_draw(ReinMax(), theta, g))
    warm, cold = (
        (mean_over_draws(theta, per_draw(GumbelRao(ROWS, tau), theta, g)) - limit).norm() for tau in (1.0, 0.03)
    )
    assert cold < 0.15 * warm


def test_reinmax_rao_approaches_reinmax_less_half_of_straight_through():
    theta, g = table(3)
    limit = per_draw(ReinMax(), theta, g) - per_draw(StraightThrough(), theta, g) / 2
    warm, cold = ((per_draw(ReinMaxRao(ROWS, tau), theta, g) - limit).norm() for tau in (1.0, 0.03))
    assert cold < 0.15 * warm


def test_reinmax_rao_returns_half_of_the_gradient_of_a_linear_loss():
    theta, g = table(3)
    gradient = jacobian(theta.softmax(dim=-1), g[0])
    mean = mean_over_draws(theta, per_draw(ReinMaxRao(ROWS, 0.03), theta, g[0].expand(3, 3)))
    assert abs((mean @ gradient) / (gradient @ gradient) - 0.5) < 0.08


class UnconditionalDifference(ReinMaxCV):
    """Its second Gumbel term forgets the draw: the difference has no zero mean."""

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        y = softmax(torch.log((pi + z) / 2) - torch.log(-torch.log(torch.rand_like(pi))))
        return super().pullback(logits, pi, z, g) + 0.2 * (jacobian((pi + z) / 2, g) - jacobian(y, g))


def test_reinmax_cv_has_the_mean_of_reinmax_at_every_draw():
    theta, g = table(3)
    expected = per_draw(ReinMax(), theta, g).squeeze(1)
    right, wrong = (
        per_draw(cv(weight=0.7, resamples=2, temperature=0.5), theta, g, copies=ROWS)
        for cv in (ReinMaxCV, UnconditionalDifference)
    )
    assert score(right, expected, dim=1) < 1
    assert score(wrong, expected, dim=1) > 1


def test_reinmax_cv_adds_variance_with_its_weight():
    theta, g = table(3)
    none, half, full = (per_draw(ReinMaxCV(eta, 2, 0.5), theta, g, 10_000).var(dim=1).sum() for eta in (0.0, 0.5, 1.0))
    assert none == pytest.approx(0, abs=1e-20)
    assert full / half == pytest.approx(4, rel=0.1)


def test_decoupled_temperatures_at_forward_one_are_straight_through_gumbel_softmax():
    theta, g = table(5)
    ours, reference = (
        (torch.manual_seed(1), estimates(estimator, theta, g, rows=100))[1]
        for estimator in (DecoupledStraightThroughGumbelSoftmax(1.0, 0.3), StraightThroughGumbelSoftmax(0.3))
    )
    torch.testing.assert_close(ours, reference)


def test_decoupled_draws_follow_the_forward_temperature():
    theta, _ = table(5)
    z = DecoupledStraightThroughGumbelSoftmax(0.5, 2.0).sample(theta.expand(ROWS, 5))
    assert frequency_score(z, softmax(theta / 0.5)) < 1
    assert frequency_score(z, softmax(theta)) > 1


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_gapped_straight_through_differentiates_the_moved_logits(tau: float):
    theta, g = table(5)
    leaf = theta.expand(5, 5).clone().requires_grad_()
    z, top = torch.eye(5, dtype=torch.float64), leaf.amax(dim=-1, keepdim=True)
    m1, m2 = z * (top - leaf), (1 - z) * torch.relu(leaf - top + 1.5)
    moved = leaf + m1.detach() - m2.detach()
    (expected,) = torch.autograd.grad((softmax(moved / tau) * g).sum(), leaf)
    actual = per_draw(GappedStraightThrough(gap=1.5, temperature=tau), theta, g).squeeze(1)
    torch.testing.assert_close(actual, expected)
    others = moved.masked_fill(z > 0, float("-inf")).amax(dim=-1)
    assert (moved.diagonal() - others >= 1.5 - 1e-12).all()


def test_adaptive_gap_depends_on_the_probability_of_the_draw():
    theta, g = table(3)
    pi = theta.softmax(dim=-1)
    adaptive = per_draw(GappedStraightThrough(gap="adaptive"), theta, g)
    for k, gap in enumerate(-torch.log1p(-pi) / pi):
        torch.testing.assert_close(adaptive[k], per_draw(GappedStraightThrough(gap=float(gap)), theta, g)[k])


@pytest.mark.parametrize("estimator", [GumbelRao, ReinMaxRao, ReinMaxCV])
def test_resamples_must_be_positive(estimator: type[Sampler]):
    with pytest.raises(ValueError, match="resamples must be at least 1; given 0"):
        estimator(resamples=0)


def test_gap_is_a_number_or_adaptive():
    with pytest.raises(ValueError, match="\"adaptive\"; given 'p'"):
        GappedStraightThrough(gap="p")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("make", [StraightThrough, ReinMax, GappedStraightThrough, GumbelRao, ReinMaxRao, ReinMaxCV])
def test_one_temperature_per_leading_row(make: type[Sampler]):
    theta, g = table(4)
    listed, first, second = (make(temperature=t) for t in ([0.5, 1.0], 0.5, 1.0))
    logits = theta.expand(2, 3, 1, 4).clone().requires_grad_()
    expected = []
    for estimator in (first, second, listed):
        torch.manual_seed(2)
        (gradient,) = torch.autograd.grad((estimator.sample(logits) * g[0]).sum(), logits)
        expected.append(gradient)
    torch.testing.assert_close(expected[2], torch.stack([expected[0][0], expected[1][1]]), rtol=1e-5, atol=1e-6)
