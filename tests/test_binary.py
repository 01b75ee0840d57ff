"""The estimators for Bernoulli latents: expectation, kinship, deterministic rows and learnt control variates."""

import itertools

import pytest
import torch
from torch import nn

from ils_lightning.estimators import (
    Arm,
    Arms,
    BitFlip,
    DisArm,
    DoubleControlVariate,
    Exact,
    Rodeo,
    bernoulli,
)
from ils_lightning.estimators.categorical import softmax

torch.set_num_threads(1)
LATENTS = 4
REPLICATES = 40_000
THRESHOLD = 4.5


def row(seed=0):
    return torch.randn(LATENTS, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mlp(seed=1):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(2 * LATENTS, 5, generator=generator, dtype=torch.float64)
    second = torch.randn(5, generator=generator, dtype=torch.float64)
    return lambda z: torch.tanh(z.flatten(-2) @ first.to(z.dtype)) @ second.to(z.dtype)


def replicate(estimator, logits, f, count=REPLICATES, seed=2):
    torch.manual_seed(seed)
    loss, estimate = estimator.estimate(logits.expand(count, *logits.shape), f)
    return loss.detach(), estimate.detach()


def z_scores(estimates, expected):
    return ((estimates.mean(0) - expected) / (estimates.std(0) / len(estimates) ** 0.5)).abs()


def with_random_net(estimator):
    """A surrogate that answers something: its last layer starts at zero."""
    torch.manual_seed(3)
    nn.init.normal_(estimator.net[-1].weight, std=0.2)
    return estimator


CASES = {
    "Arm": Arm(),
    "DisArm": DisArm(),
    "Arms2": Arms(2),
    "Arms3": Arms(3),
    "Arms7": Arms(7),
    "BitFlip": BitFlip(),
    "DoubleControlVariate": DoubleControlVariate(2, coefficient=-0.7),
    "DoubleControlVariate4": DoubleControlVariate(4, coefficient=1.3),
    "Rodeo": with_random_net(Rodeo(2)),
    "Rodeo4": with_random_net(Rodeo(4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_gradient_and_loss_are_those_of_enumeration(name):
    logits, f = row(), mlp()
    value, gradient = Exact().estimate(logits, f)
    loss, estimate = replicate(CASES[name], logits, f)
    assert z_scores(estimate, gradient).max() < THRESHOLD
    assert z_scores(loss, value) < THRESHOLD


class UncorrectedArms(Arms):
    """A mutant: leave-one-out on dependent draws, without the factor that undoes the dependence."""

    def _factor(self, p, q):
        return torch.ones_like(p)


class UncorrectedDoubleControlVariate(DoubleControlVariate):
    """A mutant: the expectation of the control variate is subtracted with the wrong sign."""

    def estimate(self, logits, f):
        loss, estimate = super().estimate(logits, f)
        p, q = bernoulli.probabilities(logits)
        z = torch.stack([softmax(logits)] * self.samples)
        _, slope = bernoulli.loss_and_slope("mutant", f, z)
        return loss, estimate + bernoulli.to_logits(2 * self.a * slope.mean(0) * p * q)


@pytest.mark.parametrize("mutant", [UncorrectedArms(3), UncorrectedDoubleControlVariate(2, coefficient=-0.7)])
def test_a_mutant_is_rejected(mutant):
    _, gradient = Exact().estimate(row(), mlp())
    _, estimate = replicate(mutant, row(), mlp())
    assert z_scores(estimate, gradient).max() > 2 * THRESHOLD


def test_two_antithetic_draws_make_arms_disarm_in_law():
    _, arms = replicate(Arms(2), row(), mlp(), seed=4)
    _, disarm = replicate(DisArm(), row(), mlp(), seed=5)
    for power in (1, 2, 3):
        a, b = arms[..., 0] ** power, disarm[..., 0] ** power
        error = ((a.var(0) + b.var(0)) / REPLICATES).sqrt()
        assert ((a.mean(0) - b.mean(0)) / error).abs().max() < THRESHOLD


@pytest.mark.parametrize("probability", [0.03, 0.4, 0.5, 0.6, 0.97])
@pytest.mark.parametrize("samples", [2, 3, 5])
def test_copula_has_the_joint_probability_of_the_formula(samples, probability):
    p = torch.full((100_000,), probability, dtype=torch.float64)
    torch.manual_seed(6)
    b = Arms(samples)._draw(p, 1 - p)
    m = min(probability, 1 - probability)
    both = max(2 * m ** (1 / (samples - 1)) - 1, 0.0) ** (samples - 1) + max(2 * probability - 1, 0.0)
    tail = both * (1 - both) / 1e5 + 1e-12
    assert abs((b[0] * b[1]).mean() - both) / tail**0.5 < THRESHOLD
    assert abs(b[-1].mean() - probability) / (probability * (1 - probability) / 1e5) ** 0.5 < THRESHOLD
    factor = Arms(samples)._factor(p, 1 - p)[0]
    assert factor == pytest.approx(probability * (1 - probability) / (probability - both), rel=1e-9)


def test_arm_averaged_over_its_noise_is_disarm(monkeypatch):
    """Midpoints of a fine grid of u stand in for the uniform noise; the draws that share (b, b') average to DisArm."""
    logits = torch.tensor([[0.7, -0.2]], dtype=torch.float64)
    p = softmax(logits)[0, 0]
    grid = ((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000).unsqueeze(-1)
    monkeypatch.setattr(bernoulli, "uniform", lambda like, samples=None: grid)
    rows = logits.expand(len(grid), 1, 2)
    _, arm = Arm().estimate(rows, lambda z: z[..., 0].sum(-1).exp())
    _, disarm = DisArm().estimate(rows, lambda z: z[..., 0].sum(-1).exp())
    b, other = grid >= 1 - p, grid < p
    for first, second in itertools.product((True, False), repeat=2):
        group = ((b == first) & (other == second)).squeeze(-1)
        torch.testing.assert_close(arm[group].sum(0) / 2e5, disarm[group].sum(0) / 2e5, atol=1e-5, rtol=0)


def test_disarm_has_at_most_the_variance_of_arm():
    """Rao-Blackwellised: no component is above, and the total is far below; 40 000 draws tell 2 % apart."""
    _, arm = replicate(Arm(), row(), mlp())
    _, disarm = replicate(DisArm(), row(), mlp())
    assert (disarm.var(0) <= 1.02 * arm.var(0)).all()
    assert disarm.var(0).sum() < 0.9 * arm.var(0).sum()


def test_bit_flip_enumerated_is_the_gradient(monkeypatch):
    """All draws b and all choices i, weighted by their probability: equal to rounding."""
    logits, f = row(), mlp()
    _, gradient = Exact().estimate(logits, f)
    states = list(itertools.product((0.0, 1.0), repeat=LATENTS))
    p = softmax(logits)[:, 0]
    total = torch.zeros_like(gradient)
    for state, index in itertools.product(states, range(LATENTS)):
        b = torch.tensor([state], dtype=torch.float64)
        monkeypatch.setattr(bernoulli, "draw", lambda p, q, samples, b=b: b)
        monkeypatch.setattr(BitFlip, "_choose", lambda self, p, i=index: torch.eye(LATENTS, dtype=p.dtype)[i])
        weight = torch.where(b[0] == 1, p, 1 - p).prod() / LATENTS
        total += weight * BitFlip().estimate(logits, f)[1]
    torch.testing.assert_close(total, gradient, atol=1e-12, rtol=0)
