"""Losses whose rows or draws depend on each other are told from those that judge each by itself."""

import itertools
from collections.abc import Callable

import pytest
import torch
from examples import EXAMPLES, Example
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from ils_lightning.diagnose import gradient_report
from ils_lightning.estimators import Average, Exact, LeaveOneOut, ReinMax
from ils_lightning.estimators.categorical import enumerate_states
from ils_lightning.estimators.coupling import CouplingError, check_coupling

torch.manual_seed(0)
ROWS, LATENTS, CATEGORIES = 5, 2, 3
LOGITS = torch.randn(ROWS, LATENTS, CATEGORIES)
W, KEYS, V = torch.randn(LATENTS * CATEGORIES, 4), torch.randn(ROWS, 4), torch.randn(4)
NORM = nn.BatchNorm1d(LATENTS * CATEGORIES)


def hidden(z: Tensor) -> Tensor:
    return torch.tanh(z.flatten(-2) @ W + KEYS[: z.shape[1]])


def alone(z: Tensor) -> Tensor:
    return hidden(z) @ V


def from_the_batch(z: Tensor) -> Tensor:
    """In-batch negatives: every row is told from all others."""
    h = hidden(z)
    scores, rows = torch.einsum("sbd,scd->sbc", h, h + KEYS[: z.shape[1]]), z.shape[1]
    target = torch.arange(rows).repeat(len(z))
    return cross_entropy(scores.flatten(0, 1), target, reduction="none").view(-1, rows)


def attention(z: Tensor) -> Tensor:
    h = hidden(z)
    return ((h @ h.mT).softmax(dim=-1) @ h) @ V


def normalised(z: Tensor) -> Tensor:
    return NORM(z.flatten(0, 1).flatten(1)).square().sum(dim=-1).view(z.shape[:2])


def mixed_up(z: Tensor) -> Tensor:
    """Every row with a partner drawn afresh in each call."""
    return alone((z + z[:, torch.randperm(z.shape[1])]) / 2)


def one_pair(cause: int, effect: int) -> Callable[[Tensor], Tensor]:
    def f(z: Tensor) -> Tensor:
        loss = z[..., 0, 0] + torch.arange(float(z.shape[1]))
        loss[:, effect] += z[:, cause, 0, 1]
        return loss

    return f


COUPLED = {
    "negatives": from_the_batch,
    "attention": attention,
    "batch norm": normalised,
    "partner": mixed_up,
    "over the mean": lambda z: alone(z) / alone(z).square().mean(dim=1, keepdim=True),
    "less the mean": lambda z: alone(z) - alone(z).mean(dim=1, keepdim=True),
    "best": lambda z: alone(z) - alone(z).amax(dim=1, keepdim=True),
    "rank": lambda z: alone(z).argsort(dim=1).argsort(dim=1).to(z),
    "rows before": lambda z: alone(z).cumsum(dim=1),
    "rows after": lambda z: alone(z).flip(1).cumsum(dim=1).flip(1),
    "next row": lambda z: alone(z).roll(1, dims=1) * alone(z),
    "share of a thousandth": lambda z: alone(z) + 1e-3 * alone(z).mean(dim=1, keepdim=True),
}
BESIDE = {
    "draws before": lambda z: alone(z).cumsum(dim=0),
    "less the mean of draws": lambda z: alone(z) - alone(z).mean(dim=0),
    "best draw": lambda z: alone(z) - alone(z).amax(dim=0),
}
GENERATOR = torch.Generator()
ALONE = {
    "network": alone,
    "dropout": lambda z: dropout(hidden(z), 0.5) @ V,
    "noise of a row's own": lambda z: alone(z) * torch.rand(z.shape[:2]),
    "generator": lambda z: alone(z) + torch.rand(z.shape[:2], generator=GENERATOR),
    "whole numbers": lambda z: z.argmax(dim=-1).sum(dim=-1),
    "truth": lambda z: z[..., 0, 0] > 0,
    "half precision": lambda z: alone(z).bfloat16(),
    "lost digits": lambda z: (alone(z) + 1e4) - 1e4,
    "padded": lambda z: torch.where(torch.arange(z.shape[1]) > 2, float("nan"), alone(z)),
    "infinite": lambda z: torch.where(z[..., 0, 0] > 0, float("inf"), alone(z)),
}


def each_state_once(z: Tensor) -> Tensor:
    """Evaluates every state that occurs once: sums run in another order when other rows change."""
    states, place = z.flatten(0, 1).flatten(1).unique(dim=0, return_inverse=True)
    return (torch.tanh(states @ W) @ V)[place].view(z.shape[:2])


@pytest.mark.parametrize("name", COUPLED)
def test_rows_that_depend_on_each_other_are_found(name):
    with pytest.raises(ValueError, match=r"judges each row by itself.*loss of row \[\d\] changes"):
        gradient_report(COUPLED[name], LOGITS, ["LeaveOneOut"], draws=32)


@pytest.mark.parametrize("name", BESIDE)
def test_draws_that_depend_on_each_other_are_found(name):
    with pytest.raises(ValueError, match="must judge each draw by itself"):
        gradient_report(BESIDE[name], LOGITS, ["LeaveOneOut"], draws=32)


@pytest.mark.parametrize("rows", [2, 3, 8, 9])
def test_every_row_is_tried_as_cause_and_as_effect_of_every_other(rows):
    for cause, effect in itertools.permutations(range(rows), 2):
        with pytest.raises(CouplingError, match=rf"row \[{effect}\]"):
            check_coupling(one_pair(cause, effect), torch.zeros(rows, 1, 2), draws=2)


def test_rows_that_are_nearly_certain_are_changed_too():
    logits = torch.tensor([30.0, 0.0, -30.0]).expand(4, 1, 3)
    with pytest.raises(CouplingError):
        check_coupling(one_pair(1, 2), logits, draws=1)


@pytest.mark.parametrize("f", [*ALONE.values(), each_state_once], ids=[*ALONE, "each state once"])
def test_losses_that_judge_each_row_by_itself_are_not_accused(f):
    for seed in range(20):
        torch.manual_seed(seed)
        check_coupling(f, LOGITS, draws=3)


def test_a_batch_of_several_axes_and_masks_is_asked_as_well():
    logits = torch.randn(2, 3, 1, 4)
    logits[0, :, :, 1:] = float("-inf")

    def f(z: Tensor) -> Tensor:
        assert not z[:, 0, ..., 1:].any()
        return z[..., 0, 2] + torch.arange(6.0).view(2, 3)

    check_coupling(f, logits, draws=3)
    with pytest.raises(CouplingError, match=r"row \[\d, \d\]"):
        check_coupling(lambda z: f(z) + f(z).mean(dim=(1, 2), keepdim=True), logits, draws=3)


def test_a_loss_that_is_not_a_number_because_of_another_row_is_found():
    with pytest.raises(CouplingError):
        check_coupling(lambda z: (alone(z) - alone(z).mean(dim=1, keepdim=True)).sqrt(), LOGITS, draws=3)


def test_it_takes_few_evaluations():
    calls = []

    def f(z: Tensor) -> Tensor:
        calls.append(len(z))
        return z[..., 0, 0]

    check_coupling(f, torch.zeros(1000, 1, 2), draws=1)
    assert calls == [1] * (2 + 2 * 10)


def joint_gradient(f: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """The gradient of the sum of E f over rows, by enumeration of all states of the batch."""
    leaf = logits.double().requires_grad_()
    rows, latents, categories = logits.shape
    states = enumerate_states(rows * latents, categories, logits).unflatten(1, (rows, latents))
    p = torch.einsum("slrk,lrk->slr", states.double(), leaf.log_softmax(dim=-1)).sum(dim=(1, 2)).exp()
    return torch.autograd.grad((p * f(states).sum(dim=1).double()).sum(), leaf)[0].float()


def test_a_coupled_batch_stated_as_latents_of_one_row_is_judged_rightly():
    logits, f = LOGITS[:3], from_the_batch
    true = joint_gradient(f, logits)

    def one_row(z: Tensor) -> Tensor:
        return f(z.unflatten(-2, logits.shape[:2]).squeeze(1)).sum(dim=-1, keepdim=True)

    _, exact = Exact().estimate(logits.flatten(0, 1)[None], one_row)
    torch.testing.assert_close(exact.view_as(logits), true, rtol=1e-4, atol=1e-5)
    report = gradient_report(one_row, logits.flatten(0, 1)[None], ["LeaveOneOut"], draws=40_000)
    (row,) = report.rows
    assert report.truth.startswith("exact")
    assert row.relative_bias_low == 0
    assert row.relative_bias_high < 0.05
    torch.manual_seed(0)
    row_by_row = LeaveOneOut(64).estimate(logits.unsqueeze(1).expand(-1, 400, -1, -1), coupled_copies)[1]
    assert (row_by_row.mean(dim=1) - true).norm() / true.norm() > 0.3


def coupled_copies(z: Tensor) -> Tensor:
    """The coupled loss of many batches side by side, `[samples, rows, batches, ...]`."""
    samples, rows, batches = z.shape[:3]
    return from_the_batch(z.transpose(1, 2).flatten(0, 1)).view(samples, batches, rows).transpose(1, 2)


def less_the_mean(z: Tensor) -> Tensor:
    return z[..., 0, 0] - 0.5 * z[..., 0, 0].mean(dim=1, keepdim=True)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_validate_asks_at_every_call_and_only_where_it_is_true(example: Example):
    logits = torch.randn(6, 2, 2, requires_grad=True)
    for asked in (None, False):
        estimator = example.make()
        estimator.validate = asked
        estimator(logits, less_the_mean).sum().backward()
    estimator.validate = True
    for _ in range(2):
        estimator(logits, lambda z: z[..., 0, 0] + z[..., 1, 1])
        with pytest.raises(ValueError, match="judges each row by itself"):
            estimator(logits, less_the_mean)


def test_an_average_asks_where_what_it_averages_is_to_ask():
    estimator = Average(ReinMax())
    estimator(torch.zeros(4, 2, 3, requires_grad=True), less_the_mean)
    estimator.estimator.validate = True
    with pytest.raises(ValueError, match="judges each row by itself"):
        estimator(torch.zeros(4, 2, 3, requires_grad=True), less_the_mean)


def test_validate_asks_before_each_call_and_changes_no_draw():
    losses, calls = [], []

    def f(z: Tensor) -> Tensor:
        calls.append(len(z))
        return dropout(z, 0.5)[..., 0, 0] + z[..., 1, 0]

    for asked in (None, True):
        torch.manual_seed(0)
        estimator = ReinMax()
        estimator.validate = asked
        logits = torch.randn(6, 2, 3, requires_grad=True)
        losses += [[estimator(logits, f) for _ in range(3)]]
        calls.append(-1)
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)
    assert calls == [1, 1, 1, -1] + [1] * 3 * (2 + 12 + 1) + [-1]


def test_a_batch_of_one_row_and_one_without_gradient_are_let_pass():
    estimator = LeaveOneOut()
    estimator.validate = True
    estimator(torch.zeros(1, 2, 3, requires_grad=True), less_the_mean)
    with torch.no_grad():
        estimator(torch.zeros(4, 2, 3), less_the_mean)
    with pytest.raises(ValueError, match="judges each row by itself"):
        estimator(torch.zeros(4, 2, 3, requires_grad=True), less_the_mean)
