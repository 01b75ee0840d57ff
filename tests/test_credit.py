"""Costs that come later: unbiased on a chain of dependent draws, against the sum over all paths."""

import copy
import itertools

import pytest
import torch
from torch import Tensor

from ils_lightning.diagnose import problem_of_draw
from ils_lightning.estimators import (
    DrGrpo,
    Exact,
    Grpo,
    LeaveOneOut,
    MovingAverage,
    NetworkBaseline,
    Reinforce,
    ReinMax,
)
from ils_lightning.estimators.reinforce import Reinforce as ReinforceClass

STEPS, ROWS, GROUP = 4, 20_000, 4


def table() -> Tensor:
    """Logits `[steps, states, 2]`: each draw's depend on the draw before."""
    return torch.randn(STEPS, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def step_cost(t: int, before: Tensor, now: Tensor) -> Tensor:
    """Cost of step t, which sees the draws `[..., 2]` before and now."""
    return (1.0 + t) * before[..., 0] * now[..., 1] + (now[..., 0] - 0.3 * t) ** 2


def exact(theta: Tensor) -> Tensor:
    """Gradient of the expected total cost, by enumeration."""
    theta = theta.clone().requires_grad_()
    eye, total = torch.eye(2, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for path in itertools.product(range(2), repeat=STEPS):
        p, cost, before = 1.0, 0.0, 0
        for t, now in enumerate(path):
            p = p * theta[t, before].softmax(-1)[now]
            cost = cost + step_cost(t, eye[before], eye[now])
            before = now
        total = total + p * cost
    (g,) = torch.autograd.grad(total, theta)
    return g


def rollout(estimator, batch: tuple[int, ...], steps: Tensor | None = None) -> Tensor:
    """The gradient that each row's copy of the table receives, `[*batch, steps, states, 2]`."""
    theta = table().expand(*batch, STEPS, 2, 2).clone().requires_grad_()
    z = torch.zeros(*batch, 2, dtype=torch.float64)
    z[..., 0] = 1
    costs, credits = [], []
    for t in range(STEPS):
        logits = torch.einsum("...s,...sk->...k", z, theta[..., t, :, :])
        now, credit = estimator.act(logits.unsqueeze(-2))
        costs.append(step_cost(t, z, now.squeeze(-2)))
        credits.append(credit)
        z = now.squeeze(-2)
    last = torch.full(batch, STEPS) if steps is None else steps
    there = torch.arange(STEPS).view(-1, *[1] * len(batch)) < last
    to_go = (torch.stack(costs) * there).flip(0).cumsum(0).flip(0)
    sum(credit(cost, mask).sum() for credit, cost, mask in zip(credits, to_go, there, strict=True)).backward()
    return theta.grad


def worst(found: Tensor, expected: Tensor, independent: int) -> Tensor:
    """Largest z-score of the mean over rows, whose first axis is a group that may be correlated."""
    rows = found.movedim(independent, 0)
    rows = rows.flatten(1, -4).mean(dim=1) if rows.dim() > 4 else rows
    return ((rows.mean(dim=0) - expected) / (rows.var(dim=0) / len(rows)).sqrt().clamp(min=1e-12)).abs().max()


@pytest.mark.parametrize("estimator", [Reinforce(), Reinforce(baseline=MovingAverage())])
def test_unbiased_on_a_chain(estimator):
    torch.manual_seed(0)
    assert worst(rollout(estimator, (ROWS,)), exact(table()), 0) < 4.5


def test_leave_one_out_is_unbiased_over_groups_of_paths():
    torch.manual_seed(0)
    assert worst(rollout(LeaveOneOut(), (GROUP, ROWS // GROUP)), exact(table()), 1) < 4.5


def test_dr_grpo_is_short_by_the_share_of_one_draw_and_grpo_is_not_in_proportion():
    torch.manual_seed(0)
    found = rollout(DrGrpo(), (GROUP, ROWS // GROUP))
    assert worst(found * GROUP / (GROUP - 1), exact(table()), 1) < 4.5
    assert worst(found, exact(table()), 1) > 10
    found, expected = rollout(Grpo(), (GROUP, ROWS // GROUP)), exact(table())
    scale = (found.mean((0, 1)) * expected).sum() / expected.square().sum()
    assert worst(found / scale, expected, 1) > 4.5


def test_lowers_the_variance():
    torch.manual_seed(0)
    plain, grouped = rollout(Reinforce(), (GROUP, 2000)), rollout(LeaveOneOut(), (GROUP, 2000))
    assert grouped.var((0, 1)).sum() < 0.8 * plain.var((0, 1)).sum()


@pytest.mark.long
def test_a_baseline_read_when_the_cost_comes_would_be_biased(monkeypatch):
    """With few rows, the costs of later steps of the same path are in it by then."""

    def late(estimator, baseline, logits):
        def advantage(cost, mask):
            b = baseline(logits)
            baseline.update(cost.unsqueeze(0))
            return cost - b

        return advantage

    def scores() -> Tensor:
        torch.manual_seed(0)
        found = torch.stack([rollout(Reinforce(baseline=MovingAverage(0.0)), (1,))[0] for _ in range(1500)])
        return worst(found, exact(table()), 0)

    whole = scores()
    monkeypatch.setattr(ReinforceClass, "_above", late)
    assert whole < 4.5 < scores()


def test_masked_steps_count_nowhere():
    torch.manual_seed(0)
    steps = torch.arange(ROWS) % 2 * STEPS  # every other row ends before it begins
    found = rollout(Reinforce(), (ROWS,), steps)
    assert (found[::2] == 0).all()
    assert worst(found[1::2], exact(table()), 0) < 4.5


def test_group_of_which_one_row_counts_has_no_baseline():
    cost, mask = torch.tensor([[3.0, 5.0], [1.0, 0.0]]), torch.tensor([[True, True], [True, False]])
    cost = torch.where(mask, cost, 0)
    expected = torch.tensor([[2.0, 5.0], [-2.0, 0.0]])
    torch.testing.assert_close(torch.where(mask, LeaveOneOut.group_advantage(cost, mask), 0), expected)


def test_the_value_is_the_cost_and_its_own_graph_stays():
    weight = torch.tensor(2.0, requires_grad=True)
    logits = torch.zeros(5, 1, 3, requires_grad=True)
    z, credit = Reinforce().act(logits)
    cost = weight * z[:, 0, 0]
    loss = credit(cost, torch.tensor([True, True, True, True, False]))
    torch.testing.assert_close(loss, torch.where(torch.arange(5) < 4, cost, 0))
    loss.sum().backward()
    torch.testing.assert_close(weight.grad, z[:4, 0, 0].sum())
    assert (logits.grad[4] == 0).all()


@pytest.mark.parametrize(
    "estimator", [Reinforce(), LeaveOneOut(), Grpo(), DrGrpo()], ids=lambda one: type(one).__name__
)
def test_draws_made_elsewhere_get_the_gradient_of_draws_made_here(estimator):
    found, cost = [], torch.randn(4, 5)
    for elsewhere in (False, True):
        torch.manual_seed(0)
        logits = torch.randn(4, 5, 2, 3).requires_grad_()
        z, credit = estimator.act(logits)
        if elsewhere:
            credit = estimator.credit(logits, z.argmax(dim=-1))
        credit(cost, (torch.arange(5) < 4).expand(4, 5)).sum().backward()
        found.append(logits.grad)
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert (found[0][:, :4] != 0).any(dim=-1).all()
    assert (found[0][:, 4] == 0).all()


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ([[0], [1], [1], [2]], "a tensor of whole numbers.*given list"),
        (torch.zeros(4, dtype=torch.long), r"whole numbers, \[\*batch, latents\] = \[4, 1\]; given torch.int64 \[4\]"),
        (torch.zeros(4, 1), "whole numbers, .* given torch.float32"),
        (
            torch.tensor([[0], [1], [-100], [2]]),
            r"lie in 0 \.\. 2; given -100 in a row that counts",
        ),
        (torch.tensor([[0], [1], [3], [2]]), r"lie in 0 \.\. 2; given 3"),
    ],
)
def test_draws_made_elsewhere_are_categories(index, said):
    with pytest.raises(ValueError, match=said):
        LeaveOneOut().credit(torch.zeros(4, 1, 3), index)(torch.zeros(4))


def test_what_draws_made_elsewhere_cannot_be():
    logits = torch.zeros(4, 1, 3)
    logits[2, 0, 1] = float("-inf")
    with pytest.raises(ValueError, match="masked by -inf"):
        Grpo().credit(logits, torch.ones(4, 1, dtype=torch.long))(torch.zeros(4))
    with pytest.raises(ValueError, match="ReinMax takes no costs of draws made elsewhere"):
        ReinMax().credit(logits, torch.zeros(4, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="made elsewhere cannot be measured"):
        problem_of_draw(lambda: LeaveOneOut().credit(torch.zeros(4, 1, 3), torch.zeros(4, 1).long())(torch.zeros(4)))


@pytest.mark.parametrize("validate", [None, False])
def test_padding_of_draws_made_elsewhere_holds_anything(validate):
    estimator, found = LeaveOneOut(), []
    estimator.validate = validate
    mask = torch.tensor([[True, True], [True, False], [False, True]])
    for pad in (0, -100):
        logits = torch.zeros(3, 2, 1, 4)
        logits[..., 0] = float("-inf")  # padding is never drawn
        leaf = logits.requires_grad_()
        index = torch.where(mask.unsqueeze(-1), 2, pad).to(torch.int32)
        estimator.credit(leaf, index)(torch.arange(6.0).reshape(3, 2), mask).sum().backward()
        found.append(leaf.grad)
    torch.testing.assert_close(*found)
    assert (found[0][~mask] == 0).all()
    assert (found[0][mask].abs().sum(dim=-1) > 0).sum() >= 3


def test_refusals():
    _, credit = Reinforce().act(torch.zeros(5, 1, 3))
    with pytest.raises(ValueError, match=r"one cost, and one mask, a row"):
        credit(torch.zeros(4))
    _, credit = LeaveOneOut().act(torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match="at least 2"):
        credit(torch.zeros(1))
    with pytest.raises(ValueError, match="NetworkBaseline"):
        Reinforce(baseline=NetworkBaseline()).act(torch.zeros(5, 1, 3))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_counts_are_costs(dtype):
    cost, found = torch.tensor([1, 0, 1, 1]).to(dtype), []
    for given in (cost, cost.float()):
        torch.manual_seed(0)
        logits = torch.zeros(4, 1, 3, requires_grad=True)
        Reinforce().act(logits)[1](given).sum().backward()
        found.append(logits.grad)
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(*found)


def test_what_padding_holds_reaches_nothing():
    estimator = Reinforce()
    estimator.validate = False
    mask, leaf = torch.tensor([True, True, False]), torch.zeros(3, 1, 3)
    leaf[2] = float("nan")
    logits = leaf.requires_grad_()
    estimator.act(logits)[1](torch.ones(3), mask).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:2] != 0).all()
    assert (logits.grad[2] == 0).all()


@pytest.mark.parametrize("estimator", [Reinforce(), LeaveOneOut(), Grpo()], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_costs_that_count_are_finite(estimator, value):
    cost, logits = torch.tensor([1.0, 0.0, value, 2.0]), torch.zeros(4, 1, 3, requires_grad=True)
    with pytest.raises(ValueError, match=rf"credit takes finite costs.*row \[2\] has {value} .*credit\(cost, mask\)"):
        estimator.act(logits)[1](cost)
    estimator.act(logits)[1](cost, torch.isfinite(cost)).sum().backward()
    assert torch.isfinite(logits.grad).all()
    unchecked = copy.copy(estimator)
    unchecked.validate = False
    assert not torch.isfinite(unchecked.act(logits)[1](cost)).all()


def test_refusals_of_other_estimators_and_numbers():
    with pytest.raises(ValueError, match=r"LeaveOneOut and Grpo draw by act\(logits\)"):
        Exact().act(torch.zeros(2, 1, 3))
    with pytest.raises(ValueError, match="tensor of costs"):
        Reinforce().act(torch.zeros(2, 1, 3))[1](1.0)
