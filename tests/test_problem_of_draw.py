"""The gradient problem of a draw inside other code, against the problem written by hand."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ils_lightning.diagnose import gradient_report, problem_of_draw
from ils_lightning.diagnose.inputs import check
from ils_lightning.diagnose.problems import problem_of
from ils_lightning.diagnose.target import enumerated
from ils_lightning.distributions import OneHotCategorical
from ils_lightning.estimators import (
    Exact,
    GumbelSoftmax,
    ILSNewton,
    LeaveOneOut,
    MovingAverage,
    Reinforce,
    ReinMax,
    StraightThroughGumbelSoftmax,
    TopKReinMax,
)
from ils_lightning.functional import sample
from ils_lightning.layers import Quantizer, Router
from ils_lightning.modules import HasProblem, Problem


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LOGITS, WEIGHT = randn(5, 2, 3), randn(2, 3, seed=1)


def by_hand(z: Tensor) -> Tensor:
    return ((z * WEIGHT).sum((-2, -1)) - 0.3).square()


@pytest.mark.parametrize(
    "draw", [lambda: OneHotCategorical(logits=LOGITS, estimator="ReinMax").rsample(), lambda: sample(LOGITS, "ReinMax")]
)
def test_loss_and_logits_are_those_written_by_hand(draw):
    problem = problem_of_draw(lambda: by_hand(draw()))
    z = nn.functional.one_hot(torch.randint(3, (7, 5, 2)), 3).float()
    torch.testing.assert_close(problem.loss(z), by_hand(z))
    torch.testing.assert_close(problem.logits.softmax(-1), LOGITS.softmax(-1))
    assert isinstance(problem.estimator, ReinMax)
    found = Exact().estimate(problem.logits, problem.loss)[1]
    torch.testing.assert_close(found, Exact().estimate(LOGITS, by_hand)[1])


def test_draws_are_judged_in_one_call_where_they_can_be():
    """By `torch.vmap`; code that chooses by values, which vmap does not take, is called once a draw."""
    calls = {"batched": 0, "in turn": 0}

    def batched() -> Tensor:
        calls["batched"] += 1
        return by_hand(sample(LOGITS, "ReinMax"))

    def in_turn() -> Tensor:
        calls["in turn"] += 1
        losses = by_hand(sample(LOGITS, "ReinMax"))
        return losses if losses.sum().item() > 0 else -losses

    z = nn.functional.one_hot(torch.randint(3, (7, 5, 2)), 3).float().requires_grad_()
    (expected,) = torch.autograd.grad(by_hand(z).sum(), z)
    problems = {"batched": problem_of_draw(batched), "in turn": problem_of_draw(in_turn)}
    calls.update({"batched": 0, "in turn": 0})
    for problem in problems.values():
        torch.testing.assert_close(problem.loss(z), by_hand(z))
        torch.testing.assert_close(torch.autograd.grad(problem.loss(z).sum(), z)[0], expected)
    assert calls == {"batched": 2, "in turn": 14}


OTHERS = [ReinMax(), GumbelSoftmax(), StraightThroughGumbelSoftmax(), ILSNewton(), TopKReinMax(size=2)]


@pytest.mark.parametrize("estimator", OTHERS, ids=lambda one: type(one).__name__)
def test_a_draw_that_others_follow_is_judged_in_one_call(estimator):
    """The answers and slopes are those of a call each, through a second draw that the first decides on."""
    torch.manual_seed(0)
    cell, decide, calls = nn.GRUCell(6, 6), randn(6, 6, seed=4), {True: 0, False: 0}

    def closure(batched: bool) -> Tensor:
        calls[batched] += 1
        first = sample(LOGITS, "ReinMax").flatten(-2)
        h = first + cell(first, torch.ones(5, 6))
        losses = by_hand(sample((h @ decide).unflatten(-1, (2, 3)), estimator))
        return losses if batched or losses.sum().item() > -1 else -losses

    z = nn.functional.one_hot(torch.randint(3, (7, 5, 2)), 3).float().requires_grad_()
    found = []
    for batched in (True, False):
        problem = problem_of_draw(partial(closure, batched))
        calls[batched] = 0
        losses = problem.loss(z)
        found.append((losses.detach(), torch.autograd.grad(losses.sum(), z)[0]))
    assert calls == {True: 1, False: 7}
    torch.testing.assert_close(*found)
    assert found[0][0].std(dim=0).max() > 0
    assert found[0][1].abs().max() > 0


@pytest.mark.parametrize("k", [1, 2])
def test_a_router_is_judged_in_one_call(k):
    router, x, outputs = Router(4, k, ReinMax() if k == 1 else TopKReinMax(size=2)), randn(6, 4), randn(4, 2, seed=3)
    calls = []

    def closure() -> Tensor:
        calls.append(1)
        return (router(x).weights @ outputs - 1).square().sum(-1)

    problem = problem_of_draw(closure)
    before = len(calls)
    problem.loss(torch.zeros(50, 6, 1, 4).scatter(-1, torch.arange(k).expand(50, 6, 1, k), 1))
    assert len(calls) == before + 1


def test_other_draws_and_dropout_keep_their_noise():
    dropout = nn.Dropout()

    def closure() -> Tensor:
        first, second = sample(LOGITS, "ReinMax"), sample(LOGITS + 1, "StraightThrough")
        return by_hand(dropout(first) + second)

    problem = problem_of_draw(closure, which=1)
    z = nn.functional.one_hot(torch.randint(3, (1, 5, 2)), 3).float()
    torch.testing.assert_close(problem.loss(z), problem.loss(z.repeat(3, 1, 1, 1))[2:])


@pytest.mark.slow
def test_a_quantizer_and_a_router_are_measured():
    torch.manual_seed(0)
    quantizer, router, x = Quantizer(4, 5), Router(4), randn(6, 4, seed=2)
    outputs = randn(4, 2, seed=3)
    for closure in (
        lambda: (quantizer(x)[0] - 1).square().sum(-1),
        lambda: (router(x).weights @ outputs - 1).square().sum(-1),
    ):
        problem = problem_of_draw(closure)
        report = gradient_report(problem.loss, problem.logits, ["LeaveOneOut", "StraightThrough"], draws=300)
        assert report.truth.startswith("exact")
        assert next(row for row in report.rows if row.name == "LeaveOneOut").relative_bias_low == 0


@pytest.mark.slow
def test_measuring_a_layer_in_training_changes_nothing_in_it():
    quantizer, x = Quantizer(4, 5, "ILSNewton", restart_below=0.9), randn(6, 4, seed=2)
    before = copy.deepcopy(quantizer.state_dict())
    problem = problem_of_draw(lambda: (quantizer(x)[0] - 1).square().sum(-1))
    gradient_report(problem.loss, problem.logits, ["LeaveOneOut"], draws=32, exact=False, reference_error=1.0)
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name]), name


class Tokens(nn.Module):
    """A user's module that holds a layer of this package, and hands its loss over by `problem_of_draw`."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, nn.BatchNorm1d(4)

    def losses(self, batch: Tensor) -> Tensor:
        out = self.layer(self.norm(batch))
        vectors = out[0] if isinstance(self.layer, Quantizer) else out.weights
        return (vectors - 1).square().sum(-1)

    def problem(self, batch: Tensor) -> Problem:
        return problem_of_draw(lambda: self.losses(batch))


@pytest.mark.slow
@pytest.mark.parametrize("layer", [Quantizer(4, 5), Router(4), Router(4, estimator="ILSNewton")])
def test_a_module_with_a_layer_is_measured_in_evaluation_mode(layer):
    model, batch = Tokens(layer), randn(6, 4)
    assert isinstance(model, HasProblem)
    with problem_of(model, batch, rows=3) as problem:
        assert not model.training
        report = gradient_report(problem.loss, problem.logits, ["LeaveOneOut"], draws=500)
    assert report.truth.startswith("exact")
    assert report.rows[0].relative_bias_low == 0
    assert model.training


@pytest.mark.slow
def test_draws_of_two_experts_are_held_against_the_sum_over_pairs():
    """A linear loss, for which the pullback of subsets is exact; its gradient is written out beside."""
    logits, w = randn(3, 4).double(), randn(4, seed=5).double()
    router = Router(4, 2, TopKReinMax(size=2), combine="even")
    problem = problem_of_draw(lambda: router(logits).weights @ w)
    chosen = ["TopKReinMax(size=2)", "ReinMax"]
    made = {chosen[0]: TopKReinMax(size=2), chosen[1]: ReinMax()}
    report = gradient_report(problem.loss, problem.logits, made, draws=4000, ones=problem.estimator.ones)
    assert report.truth == "exact: every one of 6 ** 1 = 6 states"
    rows = {row.name: row for row in report.rows}
    assert "draws 1 of the categories" in rows["ReinMax"].not_applicable
    assert rows[chosen[0]].relative_bias_low == 0
    assert rows[chosen[0]].relative_bias_high < 0.05
    facts = check(problem.logits, problem.loss, 2)
    theta = logits.clone().requires_grad_()
    pairs = [(i, j) for i in range(4) for j in range(i)]
    p = torch.stack([theta[:, i] + theta[:, j] for i, j in pairs], -1).softmax(-1)
    value = (p * torch.stack([(w[i] + w[j]) / 2 for i, j in pairs])).sum()
    (expected,) = torch.autograd.grad(value, theta)
    found = enumerated(problem.logits, problem.loss, facts, 2**26).gradient
    torch.testing.assert_close(found, expected.flatten())
    with pytest.raises(ValueError, match="sum over all subsets alone"):
        gradient_report(problem.loss, problem.logits, made, draws=32, ones=2, limit=5)


def test_refusals():
    with pytest.raises(ValueError, match="weighs its draws"):
        problem_of_draw(lambda: Router(4, estimator="SparseMixer")(LOGITS[:, 0].repeat(1, 2)[:, :4]).weights.sum(-1))
    with pytest.raises(ValueError, match="makes 0 draws"):
        problem_of_draw(lambda: torch.zeros(5))
    with pytest.raises(ValueError, match="one value a row"):
        problem_of_draw(lambda: by_hand(sample(LOGITS, "ReinMax"))[:3])
    with pytest.raises(ValueError, match="answered float"):
        problem_of_draw(lambda: by_hand(sample(LOGITS, "ReinMax")).sum().item())
    with pytest.raises(ValueError, match=r"answered \[\]"):
        problem_of_draw(lambda: by_hand(sample(LOGITS, "ReinMax")).mean())


def test_other_estimators_learn_nothing():
    other, baseline = ILSNewton(), MovingAverage()
    score = Reinforce(baseline=baseline)

    def closure() -> Tensor:
        first = sample(LOGITS, "ReinMax")
        second = sample((first - 0.5).cumsum(-1), other)
        third, credit = score.act(second)
        return credit(by_hand(second) + by_hand(third))

    other.build(2, 3), baseline.build(2, 3)
    before = copy.deepcopy((other.state_dict(), baseline.state_dict()))
    problem = problem_of_draw(closure)
    z = nn.functional.one_hot(torch.randint(3, (2, 5, 2)), 3).float().requires_grad_()
    (g,) = torch.autograd.grad(problem.loss(z).sum(), z)
    assert g.abs().sum() > 0
    for module, state in zip((other, baseline), before, strict=True):
        assert state, module
        for name, value in module.state_dict().items():
            assert torch.equal(value, state[name]), name


def test_noise_of_a_generator_is_held_too():
    generator = torch.Generator().manual_seed(3)
    problem = problem_of_draw(
        lambda: by_hand(sample(LOGITS, "ReinMax") + sample(LOGITS, "ReinMax", generator=generator))
    )
    z = nn.functional.one_hot(torch.randint(3, (1, 5, 2)), 3).float()
    torch.testing.assert_close(problem.loss(z), problem.loss(z))


def test_a_draw_of_a_score_function_is_measured():
    score = Reinforce(baseline=MovingAverage())

    def closure() -> Tensor:
        z, credit = score.act(LOGITS)
        return credit(by_hand(z))

    problem = problem_of_draw(closure)
    assert problem.estimator is score
    found = Exact().estimate(problem.logits, problem.loss)[1]
    torch.testing.assert_close(found, Exact().estimate(LOGITS, by_hand)[1])


@pytest.mark.slow
def test_one_loss_for_the_vectors_of_a_picture():
    torch.manual_seed(0)
    quantizer, x = Quantizer(4, 3), randn(5, 2, 2, 4, seed=2)  # five pictures of 2 x 2 vectors
    decoder = nn.Linear(16, 3)
    problem = problem_of_draw(lambda: decoder(quantizer(x)[0].flatten(1)).square().sum(-1))
    assert problem.logits.shape == (5, 4, 3)
    z = nn.functional.one_hot(torch.randint(3, (1, 5, 4)), 3).float()
    moved = z.clone()
    moved[0, 2] = moved[0, 2].roll(1, dims=-1)
    change = problem.loss(moved) - problem.loss(z)
    assert torch.equal(change[0] != 0, torch.arange(5) == 2)
    report = gradient_report(problem.loss, problem.logits, ["LeaveOneOut"], draws=300)
    assert report.rows[0].relative_bias_low == 0


def test_tokens_of_several_axes_and_a_single_draw():
    torch.manual_seed(0)
    router, x, outputs = Router(4), randn(3, 5, 4, seed=2), randn(4, 2, seed=3)
    problem = problem_of_draw(lambda: (router(x).weights @ outputs - 1).square().sum(-1))
    assert problem.logits.shape == (3, 5, 1, 4)
    scored = Router(4, estimator=LeaveOneOut())
    problem = problem_of_draw(lambda: (scored(x).weights @ outputs - 1).square().sum(-1))
    assert problem.logits.shape == (3, 5, 1, 4)
    single = problem_of_draw(lambda: OneHotCategorical(logits=LOGITS[0, 0]).rsample() @ WEIGHT[0])
    z = torch.eye(3).unsqueeze(1)
    torch.testing.assert_close(single.loss(z), WEIGHT[0])
