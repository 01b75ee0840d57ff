"""Learning from some steps only: which, what is read in between, and that a resumed run goes on with the same ones."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from random_problems import noise, random_problem
from test_family_state import gradient, state

from ils_lightning.estimators import ILSJoint, ILSLowRank, ILSNewton, ILSTempered
from ils_lightning.estimators.learnt import Learnt

SELDOM = [ILSNewton, ILSJoint, ILSTempered, ILSLowRank]
Make = Callable[..., ILSNewton | ILSLowRank]


def learnt_from(every: int, steps: int) -> list[bool]:
    estimator = ILSNewton(every=every)
    return [estimator.due() for _ in range(steps)]


def test_every_step_is_learnt_from_at_first_and_one_in_so_many_in_the_end():
    due = learnt_from(8, 4000)
    assert all(due[:15])
    assert abs(sum(due[64:]) * 8 / len(due[64:]) - 1) < 0.01
    assert all(learnt_from(1, 100))


@pytest.mark.parametrize("period", [2, 3, 5, 8, 13, 16])
def test_chosen_steps_fall_evenly_on_what_comes_round(period: int):
    due = torch.tensor(learnt_from(8, 64 + 1000 * period)[64:]).reshape(-1, period).double().mean(dim=0)
    assert (due * 8 - 1).abs().max() < 0.1


@pytest.mark.parametrize("make", SELDOM)
def test_resumed_run_learns_from_the_same_steps(make: Make):
    logits, first = torch.randn(16, 2, 4), make(every=4)
    for seed in range(29):
        gradient(first, logits, seed=seed)
    resumed = make(every=4)
    resumed.load_state_dict(first.state_dict())
    for seed in range(29, 45):
        expected = gradient(first, logits, seed=seed)
        torch.testing.assert_close(gradient(resumed, logits, seed=seed), expected, rtol=0, atol=0)
    torch.testing.assert_close(state(resumed), state(first), rtol=0, atol=0)


@pytest.mark.parametrize("make", SELDOM)
def test_state_of_a_version_that_learnt_from_every_step_is_taken(make: Make):
    logits, old, new = torch.randn(16, 2, 4), make(every=1), make(every=8)
    for seed in range(3):
        gradient(old, logits, seed=seed)
    assert "steps" not in old.state_dict()
    new.load_state_dict(old.state_dict())
    torch.testing.assert_close(gradient(new, logits), gradient(old, logits), rtol=0, atol=0)


def changed_in_place(estimator: Learnt) -> None:
    getattr(estimator, estimator.statistics[0]).mul_(2)


def replaced(estimator: Learnt) -> None:
    name = estimator.statistics[0]
    setattr(estimator, name, getattr(estimator, name) + 1)


def of_another_ridge(estimator: ILSNewton) -> None:
    estimator.ridge = 0.5


def loaded(estimator: Learnt) -> None:
    estimator.load_state_dict({name: value + 1 for name, value in estimator.state_dict().items()})


def learnt(estimator: Learnt) -> None:
    gradient(estimator.train(), torch.randn(16, 2, 4))
    estimator.eval()


CHANGES = [changed_in_place, replaced, loaded, learnt]


@pytest.mark.parametrize(
    ("make", "change"),
    [*itertools.product(SELDOM, CHANGES), *((make, of_another_ridge) for make in SELDOM if make is not ILSLowRank)],
)
def test_what_is_read_follows_the_state(make: Make, change: Callable[[Any], None]):
    logits, estimator = torch.randn(16, 2, 4), make()
    for seed in range(3):
        gradient(estimator, logits, seed=seed)
    before = gradient(estimator.eval(), logits)
    change(estimator)
    given, fresh = gradient(estimator, logits), copy.deepcopy(estimator)
    assert not torch.equal(given, before)
    torch.testing.assert_close(gradient(fresh, logits), given, rtol=0, atol=0)


def test_copies_read_for_themselves():
    logits, estimator = torch.randn(16, 2, 4), ILSNewton()
    for seed in range(3):
        gradient(estimator, logits, seed=seed)
    copied, expected = copy.deepcopy(estimator).eval(), gradient(copy.deepcopy(estimator).eval(), logits)
    estimator.S.zero_()
    torch.testing.assert_close(gradient(copied, logits), expected, rtol=0, atol=0)


def variance(make: Make, every: int, kind: str) -> float:
    return noise(make(every=every), random_problem(kind, 3, 4, 100, False, seed=3), steps=100)


@pytest.mark.parametrize("kind", ["quadratic", "mlp", "decoder"])
@pytest.mark.parametrize("make", SELDOM)
def test_a_step_in_eight_has_nearly_the_variance_of_every_step(make: Make, kind: str):
    assert variance(make, 8, kind) < 1.15 * variance(make, 1, kind)


@pytest.mark.parametrize("make", SELDOM)
def test_every_is_a_whole_number(make: Make):
    with pytest.raises(ValueError, match="every must be at least 1; given 0"):
        make(every=0)
