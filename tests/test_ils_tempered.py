"""The members with a temperature: ReinMax(tau)'s expectation whatever they learnt, by enumeration, and less noise."""

import pytest
import torch
from random_problems import noise, random_problem
from test_ils_joint import CATEGORIES, LATENTS, expectation, randn, with_state

from ils_lightning.estimators import ILSJoint, ILSTempered, ILSTemperedDiagonal, ReinMax
from ils_lightning.estimators.family import Step
from ils_lightning.estimators.tempered import TemperedStep

EXACT = {"rtol": 1e-11, "atol": 1e-12}


def diagonal(temperature: float) -> ILSTemperedDiagonal:
    estimator = ILSTemperedDiagonal(temperature=temperature)
    estimator.build(LATENTS, CATEGORIES)
    estimator.h = randn(LATENTS, CATEGORIES, seed=1)
    return estimator.double().eval()


@pytest.mark.parametrize("tau", [0.7, 1.0, 1.5, 2.0])
def test_expectation_is_that_of_reinmax_at_the_same_temperature_whatever_has_been_learnt(tau):
    expected = expectation(ReinMax(temperature=tau))
    torch.testing.assert_close(expectation(with_state(ILSTempered(temperature=tau))), expected, **EXACT)
    torch.testing.assert_close(expectation(diagonal(tau)), expected, **EXACT)


@pytest.mark.parametrize("broken", ["mean", "explained"])
def test_broken_expectation_of_the_step_is_seen(broken, monkeypatch):
    monkeypatch.setattr(TemperedStep, broken, getattr(Step, broken))  # of the family without a temperature
    off = expectation(with_state(ILSTempered(temperature=1.5))) - expectation(ReinMax(temperature=1.5))
    assert off.abs().max() > 1e-3


def test_at_temperature_one_it_is_the_joint_member_with_base_one_draw_by_draw():
    logits, g = randn(100, LATENTS, CATEGORIES, seed=5), randn(100, LATENTS, CATEGORIES, seed=6)
    pi = logits.softmax(dim=-1)
    z = torch.nn.functional.one_hot(pi.cumsum(-1).lt(0.5).sum(-1).clamp(max=CATEGORIES - 1), CATEGORIES).double()
    found, expected = (
        with_state(make).pullback(logits, pi, z, g) for make in (ILSTempered(temperature=1.0), ILSJoint(base=1.0))
    )
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("make", [ILSTempered, ILSTemperedDiagonal])
@pytest.mark.parametrize(("kind", "most"), [("quadratic", 0.75), ("mlp", 1.05), ("decoder", 0.9)])
def test_noise_beside_reinmax_at_the_same_temperature(kind, most, make):
    given = random_problem(kind, 3, 4, 100, False, seed=3)
    assert noise(make(temperature=1.5), given) < most * noise(ReinMax(temperature=1.5), given)


def test_options_are_temperature_and_not_base():
    assert set(ILSTempered().ranges) == {"ridge", "temperature"}
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        ILSTempered(temperature=0.0)
    with pytest.raises(TypeError, match="base"):
        ILSTempered(base=1.0)  # pyright: ignore[reportCallIssue]
