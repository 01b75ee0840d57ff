"""ILSJoint: the same expectation as ILSNewton's whatever it has learnt, by enumeration, and less noise."""

import dataclasses
import itertools

import pytest
import torch
from random_problems import RandomProblem, noise, quadratic, random_problem
from torch import Tensor

from ils_lightning.estimators import Estimator, ILSJoint, ILSNewton, ReinMax, coupled, ils_joint
from ils_lightning.estimators.ils_joint import coefficients

LATENTS, CATEGORIES, ROWS = 3, 3, 100


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def with_state(estimator: ILSNewton) -> ILSNewton:
    """An estimator that has learnt something arbitrary, and learns no more."""
    estimator.build(LATENTS, CATEGORIES)
    estimator.S, estimator.P = randn(LATENTS, CATEGORIES, CATEGORIES, seed=1), torch.eye(CATEGORIES).repeat(3, 1, 1)
    if isinstance(estimator, ILSJoint):
        blocks = randn(LATENTS, CATEGORIES, LATENTS, CATEGORIES, seed=2)
        blocks.diagonal(dim1=0, dim2=2).zero_()
        estimator.T = blocks.reshape(LATENTS * CATEGORIES, -1)
        estimator.fit = torch.stack(
            [randn(2, LATENTS, 1, seed=3), torch.ones(2, LATENTS, 1), torch.zeros(2, LATENTS, 1)]
        )
    return estimator.double().eval()


def expectation(estimator: Estimator) -> Tensor:
    """E estimate for an arbitrary table of gradients, one for each joint draw."""
    logits = randn(LATENTS, CATEGORIES, seed=4)
    index = torch.tensor(list(itertools.product(range(CATEGORIES), repeat=LATENTS)))
    z = torch.nn.functional.one_hot(index, CATEGORIES).double()
    pi = logits.softmax(dim=-1).expand_as(z)
    p, g = (pi * z).sum(dim=-1).prod(dim=-1), randn(*z.shape, seed=5)
    return torch.einsum("n,nlk->lk", p, estimator.pullback(logits.expand_as(z), pi, z, g))


@pytest.mark.parametrize("base", [0.0, 0.5, 1.0])
def test_expectation_is_that_of_newton_whatever_has_been_learnt_beside_its_state(base):
    expected = expectation(with_state(ILSNewton(base=base)))
    torch.testing.assert_close(expectation(with_state(ILSJoint(base=base))), expected, rtol=1e-11, atol=1e-12)


def test_expectation_at_base_one_is_that_of_reinmax():
    torch.testing.assert_close(expectation(with_state(ILSJoint(base=1.0))), expectation(ReinMax()))


@pytest.mark.parametrize("broken", ["own block", "guess not given back"])
def test_broken_control_variate_has_another_expectation(broken, monkeypatch):
    estimator = with_state(ILSJoint())
    if broken == "own block":
        estimator.T = estimator.T + torch.eye(LATENTS * CATEGORIES, dtype=torch.float64)
    else:
        monkeypatch.setattr("ils_lightning.estimators.family.Step.mean", lambda step, a: torch.zeros_like(a))
    assert (expectation(estimator) - expectation(with_state(ILSNewton()))).abs().max() > 0.01


def problem(settled: bool) -> RandomProblem:
    """Rows that differ in their linear part and share the curvature; settled logits are minus the linear part."""
    size = LATENTS * CATEGORIES
    root, x = randn(size, size, seed=6), 2 * randn(ROWS, size, seed=7)
    logits = (-x if settled else randn(ROWS, size, seed=8)).unflatten(-1, (LATENTS, CATEGORIES))
    return RandomProblem("quadratic", CATEGORIES, LATENTS, False, logits, quadratic((root + root.T) / 4, x))


@pytest.mark.slow
def test_quadratic_loss_with_one_curvature_has_next_to_no_variance_at_base_zero():
    joint, newton = (
        noise(make(base=0.0, decay=0.98, every=1), problem(settled=False), 150) for make in (ILSJoint, ILSNewton)
    )
    assert joint < 0.02 * newton


def test_settled_logits_take_away_the_noise_of_the_base():
    joint, newton = (noise(make(base=1.0), problem(settled=True)) for make in (ILSJoint, ILSNewton))
    assert joint < 0.2 * newton


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("kind", ["quadratic", "mlp", "decoder"])
def test_adds_no_noise_on_random_problems(kind, alike):
    given = random_problem(kind, 3, 4, ROWS, alike, seed=3)
    assert noise(ILSJoint(), given) < noise(ILSNewton(), given)


def test_learns_how_the_gradient_follows_settled_logits():
    torch.manual_seed(0)
    given, estimator = problem(settled=True), ILSJoint()
    for _ in range(20):
        estimator.estimate(given.logits, given.loss)
    assert (coefficients(estimator.fit)[1] + 1).abs().max() < 0.3


def noise_after_settled_rows(estimator: ILSNewton, kind: str, scale: float, seed: int) -> float:
    """Variance at open rows in the state learnt at the same rows with logits `scale` times as large."""
    given = random_problem(kind, 3, 4, ROWS, False, seed=seed)
    settled = dataclasses.replace(given, logits=scale * given.logits)
    torch.manual_seed(0)
    for _ in range(20):
        estimator.estimate(settled.logits, settled.loss)
    return noise(estimator, given, steps=0)


def worst_after_settled_rows(every: int = 1) -> float:
    """Ratio of ILSJoint's variance to ILSNewton's."""
    cases = itertools.product(("mlp", "decoder"), (20.0, 30.0), range(4))
    made = ([noise_after_settled_rows(make(every=every), *case) for make in (ILSJoint, ILSNewton)] for case in cases)
    return max(joint / newton for joint, newton in made)


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 8])
def test_settled_rows_say_nothing_of_open_ones(every):
    assert worst_after_settled_rows(every) < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["few rows believed", "any regressor believed"])
def test_coefficients_from_settled_rows_would_add_noise_to_open_ones(broken, monkeypatch):
    whole = ils_joint.coefficients
    if broken == "few rows believed":
        monkeypatch.setattr(ils_joint, "coefficients", lambda fit: whole(torch.cat([fit[:2], 0 * fit[2:]])))
    else:
        monkeypatch.setattr(coupled, "SMALLEST_SHARE", 0.0)
    assert worst_after_settled_rows() > 2
