"""Gradient reports: what they say of known losses, what they leave untouched, and how they refuse bad input."""

import itertools
import random
import re
from copy import deepcopy

import numpy as np
import pytest
import torch
from examples import EXAMPLES, Example
from problems import expectation, mlp, quadratic, truth
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from ils_lightning.diagnose import gradient_report, replicates
from ils_lightning.diagnose.advice import advice
from ils_lightning.diagnose.inputs import check
from ils_lightning.diagnose.named import default_estimators
from ils_lightning.diagnose.tables import in_text
from ils_lightning.diagnose.target import enumerated, sampled
from ils_lightning.estimators import (
    ILSCV,
    Estimator,
    Exact,
    GumbelSoftmax,
    ILSNewton,
    LeaveOneOut,
    LocalExpectation,
    MovingAverage,
    Reinforce,
    ReinMax,
    Relax,
)


def step_function(z: Tensor) -> Tensor:
    """A loss without a gradient in z, though it holds a parameter that has one."""
    return (z[..., 0].sum(-1) > 1).to(z) * PARAMETER + z.argmax(dim=-1).sum(-1)


PARAMETER = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))


def of(report, name: str):
    (row,) = [row for row in report.rows if row.name == name]
    return row


@pytest.mark.parametrize("chunk", [1, 2**30])
def test_the_exact_gradient_is_that_of_the_expectation(chunk):
    problem = mlp(3, 4)
    logits = problem.logits.expand(2, -1, -1).contiguous()
    found = enumerated(logits, problem.loss(), check(logits, problem.loss()), memory=chunk)
    expected = truth(problem)
    torch.testing.assert_close(found.gradient.reshape(2, 3, 4)[1], expected["gradient"])
    assert found.value == pytest.approx(expected["loss"].item())


def test_the_exact_gradient_is_that_of_the_exact_estimator():
    torch.manual_seed(0)
    logits, W = torch.randn(3, 4, 8, dtype=torch.float64), torch.randn(32, 16, dtype=torch.float64)

    def f(z: Tensor) -> Tensor:
        return torch.tanh(z.flatten(-2) @ W).sum(dim=-1)

    found = enumerated(logits, f, check(logits, f), memory=2**24)
    assert found.source.endswith("8 ** 4 = 4,096 states")
    torch.testing.assert_close(found.gradient.view_as(logits), Exact().estimate(logits, f)[1], rtol=1e-12, atol=1e-14)


def test_masked_states_do_not_count_though_f_is_not_finite_there():
    logits = torch.tensor([[[0.3, -0.2, float("-inf")]]], dtype=torch.float64)

    def f(z: Tensor) -> Tensor:
        return torch.where(z[..., 0, 2] > 0, float("nan"), z[..., 0, 0])

    found = enumerated(logits, f, check(logits, f), memory=2**20)
    p = logits[0, 0].softmax(dim=0)[0]
    torch.testing.assert_close(found.gradient, torch.stack([p * (1 - p), -p * (1 - p), 0 * p]))


def test_reinmax_has_no_bias_on_quadratics_and_straight_through_has():
    problem = quadratic(2, 4)
    report = gradient_report(problem.loss(), problem.logits[None], ["ReinMax", "StraightThrough"], draws=5000)
    reinmax, straight = of(report, "ReinMax"), of(report, "StraightThrough")
    assert reinmax.relative_bias_low == 0
    assert straight.relative_bias_low > 0.1
    assert straight.value_bias_low < 0 < straight.value_bias_high
    assert report.rows[0] is reinmax


def test_a_soft_draw_has_a_value_bias():
    problem = mlp(2, 4)
    row = gradient_report(problem.loss(), problem.logits[None], [GumbelSoftmax()], draws=5000).rows[0]
    assert not row.value_bias_low <= 0 <= row.value_bias_high


def test_the_cosine_of_averages_grows_towards_that_of_the_mean():
    problem = mlp(2, 4)
    row = gradient_report(problem.loss(), problem.logits[None], [LeaveOneOut()], draws=8192).rows[0]
    counts = sorted(row.cosines)
    assert counts[:7] == [1, 2, 4, 8, 16, 32, 64]
    assert row.cosines[1] == pytest.approx(row.cosine_of_one)
    assert all(row.cosines[a] < row.cosines[b] for a, b in itertools.pairwise(counts[:8]))
    assert 0.99 < row.cosine <= 1


def test_a_mutant_is_seen():
    class Scaled(LeaveOneOut):
        def estimate(self, logits, f):
            loss, estimate = super().estimate(logits, f)
            return loss, 1.1 * estimate

    problem = mlp(2, 3)
    rows = gradient_report(problem.loss(), problem.logits[None], [Scaled(), LeaveOneOut()], draws=20_000).rows
    by_name = {row.name: row for row in rows}
    assert by_name["Scaled"].relative_bias_low > 0.05
    assert by_name["LeaveOneOut"].relative_bias_low == 0


@pytest.mark.slow
def test_reports_repeat_under_a_seed_and_leave_everything_as_it_was():
    torch.manual_seed(3)
    decoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
    decoder(torch.ones(6)).backward()
    logits = torch.randn(4, 2, 3, requires_grad=True)
    made = {
        "Newton": ILSNewton(),
        "Relax": Relax(),
        "Average": Reinforce(baseline=MovingAverage()),
        "CV": ILSCV(),
        "Exact": Exact(),
    }
    made["Newton"].estimate(logits.detach(), lambda z: decoder(z.flatten(-2)).squeeze(-1))
    before = deepcopy([made["Newton"].state_dict(), decoder.state_dict(), [p.grad for p in decoder.parameters()]])
    streams = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    reports = [
        gradient_report(lambda z: decoder(z.flatten(-2)).squeeze(-1), logits, made, draws=64, settle=3)
        for _ in range(2)
    ]
    after = [made["Newton"].state_dict(), decoder.state_dict(), [p.grad for p in decoder.parameters()]]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert (np.random.get_state()[1] == streams[1]).all()
    assert random.getstate() == streams[2]
    assert logits.grad is None
    assert isinstance(made["Relax"].critic.layers[0].weight, UninitializedParameter)  # not even its size was chosen
    for first, second in zip(*(report.rows for report in reports), strict=True):
        first.seconds = second.seconds = 0.0
        assert first == second


@pytest.mark.slow
def test_the_number_of_replicates_in_a_call_changes_no_expectation():
    problem = mlp(2, 3)
    logits = problem.logits.expand(3, -1, -1)
    few, many = (
        gradient_report(problem.loss(), logits, [ReinMax()], draws=4000, memory=memory).rows[0] for memory in (1, 2**26)
    )
    assert few.relative_bias_low < many.relative_bias < few.relative_bias_high
    assert few.relative_variance_low < many.relative_variance < few.relative_variance_high


@pytest.mark.slow
@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.objective is expectation], ids=str)
def test_every_estimator_is_measured(example: Example):
    problem = mlp(*((4, 2) if example.make().binary else (2, 5)))
    row = gradient_report(problem.loss(), problem.logits.expand(4, -1, -1), [example.make()], draws=64, settle=2).rows[
        0
    ]
    assert row.not_applicable == ""
    assert row.relative_variance_low <= row.relative_variance <= row.relative_variance_high
    assert row.evaluations == example.make().evaluations(*problem.logits.shape)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.make().pooled_by_state], ids=str)
def test_rows_are_independent_where_only_the_state_pools(example: Example):
    problem = mlp(2, 5)
    estimator = example.make().double()
    logits = problem.logits.expand(6, -1, -1).clone()
    estimator.estimate(logits, problem.loss())
    estimator.eval()
    found = []
    for factor in (torch.ones(6), torch.tensor([1.0, 5.0, -2.0, 0.0, 3.0, 1.0])):
        torch.manual_seed(1)
        found.append(estimator.estimate(logits, lambda z, c=factor: c.to(z) * problem.base(z))[1])
    torch.testing.assert_close(found[0][0], found[1][0])
    assert not torch.allclose(found[0][1], found[1][1])


def test_copies_of_a_batch_that_pools_do_not_pool_with_each_other():
    """ILSCV of one row alone is ReinMax, whatever the number of replicates in a call."""
    problem = mlp(2, 3)
    plan = replicates.Plan(blocks=2, width=50, copies=100, settle=0)
    found = []
    for estimator in (ILSCV(), ReinMax()):
        torch.manual_seed(0)
        found += [torch.cat([e for _, e in replicates.blocks(estimator, problem.logits[None], problem.loss(), plan)])]
    torch.testing.assert_close(*found)


@pytest.mark.slow
def test_learnt_state_settles_before_it_is_measured():
    problem = quadratic(1, 4)
    logits = problem.logits.expand(64, -1, -1)
    fresh, settled = (
        gradient_report(problem.loss(), logits, [ILSNewton(base=0.0)], draws=256, settle=settle).rows[0]
        for settle in (0, 30)
    )
    assert settled.relative_bias_high < fresh.relative_bias_low / 2


def test_beyond_enumeration_a_reference_says_how_good_it_is():
    problem = mlp(3, 3)
    logits = problem.logits[None]
    facts = check(logits, problem.loss())
    found = sampled(LeaveOneOut(16), logits, problem.loss(), facts, 2**26, error=0.02, evaluations=10**9)
    exact = enumerated(logits, problem.loss(), facts, 2**26)
    error = (found.noise.square().sum() / len(found.noise) / (len(found.noise) - 1)).sqrt()
    assert error / exact.gradient.norm() < 0.025
    assert (found.gradient - exact.gradient).norm() < 4 * error
    report = gradient_report(problem.loss(), logits, ["StraightThrough", "Exact"], exact=False, draws=2000)
    assert "reference: mean of" in report.truth
    true = gradient_report(problem.loss(), logits, ["StraightThrough"], draws=2000).rows[0]
    assert of(report, "StraightThrough").relative_bias_low < true.relative_bias
    assert of(report, "StraightThrough").relative_bias_high > true.relative_bias
    assert "too many to enumerate" in of(report, "Exact").not_applicable


def test_local_expectation_serves_as_the_reference():
    """Beyond 2 ** 20 states, on a sum over latents, whose gradient is that of each latent by itself."""
    theta, w = torch.randn(2, 21, 2, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 42).view(21, 2)
    report = gradient_report(
        lambda z: (z * w).sum((-2, -1)), theta, ["StraightThrough"], draws=500, reference=LocalExpectation()
    )
    assert "LocalExpectation" in report.truth
    assert report.rows[0].relative_bias_high < 0.05  # straight-through is exact for a linear loss


def test_a_reference_that_stops_early_says_so():
    problem = mlp(2, 3)
    report = gradient_report(
        problem.loss(), problem.logits[None], ["ReinMax"], exact=False, limit=1, reference_error=1e-6, draws=100
    )
    assert report.truth.endswith("stopped there, 0.0001% was asked for")


@pytest.mark.slow
def test_what_does_not_apply_is_a_row_with_its_reason():
    logits = torch.randn(2, 3, 4, dtype=torch.float64)
    report = gradient_report(step_function, logits, ["ReinMax", "DisArm", "LeaveOneOut", "Relax"], draws=64)
    assert "no gradient in z" in of(report, "ReinMax").not_applicable
    assert "2 categories only" in of(report, "DisArm").not_applicable
    assert {row.name for row in report.applicable} == {"LeaveOneOut", "Relax"}
    assert [bool(row.not_applicable) for row in report.rows] == [False, False, True, True]
    assert PARAMETER.grad is None


def test_estimates_that_are_not_finite_are_a_reason():
    class Broken(ReinMax):
        def pullback(self, logits, pi, z, g):
            return super().pullback(logits, pi, z, g) / 0

    problem = mlp(1, 3)
    row = gradient_report(problem.loss(), problem.logits[None], [Broken()], draws=64).rows[0]
    assert "not all finite" in row.not_applicable


def noisy(z: Tensor) -> Tensor:
    return nn.functional.dropout(z, 0.5).sum(dim=(-2, -1))


def normalised(z: Tensor) -> Tensor:
    return ((z - z.mean(dim=0)) * torch.arange(4)).square().sum(dim=(-2, -1))


@pytest.mark.parametrize(
    ("f", "logits", "message"),
    [
        (lambda z: z.sum(dim=-1), torch.zeros(2, 3, 4), r"must map z .* returned \[3, 2, 3\]"),
        (lambda z: z.sum().item(), torch.zeros(2, 3, 4), "returned float"),
        (noisy, torch.zeros(2, 3, 4), "same draws, but two evaluations"),
        (normalised, torch.zeros(2, 3, 4), "judge each draw by itself"),
        (lambda z: z.sum(dim=(-2, -1)) / 0, torch.zeros(2, 3, 4), "finite at every draw; it is inf"),
        (lambda z: z.sum(dim=(-2, -1)), torch.full((2, 3, 4), float("nan")), r"row \[0, 0\] .* has NaN"),
        (lambda z: z.sum(dim=(-2, -1)), torch.full((2, 3, 4), float("-inf")), "has -inf throughout"),
        (lambda z: z.sum(dim=(-2, -1)), torch.zeros(4), r"\[\*batch, latents, categories\]"),
        (lambda z: z.sum(dim=(-2, -1)), torch.zeros(2, 3, 4, dtype=torch.long), "floating-point"),
        (torch.zeros(2, 3, 4), lambda z: z.sum(dim=(-2, -1)), "logits must be floating-point .*given function"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), r"f must be a function of draws .*given float32 \[2, 3, 4\]"),
        (lambda z: z.sum(dim=(-2, -1)), torch.randn(2, 3, 4), "must be finite and not zero"),
        (
            lambda z: torch.where(z[..., 0, 3] > 0, float("nan"), z[..., 0, 0]),
            torch.tensor([[[0.0, 0.0, 0.0, -30.0]]]),
            r"not finite at a state that can be drawn: categories \[3\] of row \[0\]",
        ),
    ],
)
def test_bad_input_is_named(f, logits, message):
    with pytest.raises(ValueError, match=message):
        gradient_report(f, logits, ["LeaveOneOut"], draws=64)


def test_too_many_states_and_wrong_options_are_named():
    problem = mlp(2, 3)
    with pytest.raises(ValueError, match=r"^diagnose: draws must be at least 32; given 3$"):
        gradient_report(problem.loss(), problem.logits[None], ["ReinMax"], draws=3)
    with pytest.raises(ValueError, match="reference must be an unbiased estimator; given ReinMax"):
        gradient_report(problem.loss(), problem.logits[None], ["ReinMax"], exact=False, reference=ReinMax())
    with pytest.raises(ValueError, match="at least one estimator"):
        gradient_report(problem.loss(), problem.logits[None], [])
    with pytest.raises(ValueError, match=r"holds ReinMax more than once.*mapping of names"):
        gradient_report(problem.loss(), problem.logits[None], ["ReinMax", "LeaveOneOut", ReinMax()])


def test_advice_names_the_best_and_who_overtakes():
    problem = mlp(2, 4)
    report = gradient_report(
        problem.loss(), problem.logits[None], ["StraightThrough", "LeaveOneOut"], draws=20_000, average=1
    )
    assert advice(report).startswith("Use StraightThrough: the average that one evaluation of f buy")
    assert "LeaveOneOut is better, having less bias" in advice(report)


def test_advice_of_the_exact_gradient_names_the_draws_of_the_others():
    logits, f = torch.randn(4, 1, 3), lambda z: z[..., 0, 0].square()
    report = gradient_report(f, logits, ["Exact", "LocalExpectation"], draws=200)
    _, other = report.rows
    other.error_low = 0.0  # as where rounding leaves it
    assert f"LocalExpectation cannot be told from it at {other.draws} draws" in advice(report)
    assert other.draws >= 200


def test_advice_on_the_next_best_is_a_sentence():
    logits, f = torch.randn(4, 1, 3), lambda z: z[..., 0, 0].square()
    report = gradient_report(f, logits, ["Exact", "LeaveOneOut"], draws=200)
    assert re.search(r"itself; the next is LeaveOneOut, with an error of [\d.]+ %\.$", advice(report))


def test_wrappers_among_all_estimators_name_what_they_wrap():
    wrapped = [name for name in default_estimators() if "(" in name]
    assert wrapped == ["LatinHypercube(ILSTempered)"]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_variance_and_cosine_have_room_however_far_off_the_estimates_are(width):
    report = gradient_report(lambda z: -(z + 1e-7).log()[..., 0, 1], torch.tensor([[[0.4, 0.0, -0.4]]]), draws=32)
    shown = in_text(report, width).splitlines()
    (heading,) = [line for line in shown if line.split()[:1] == ["estimator"]]
    assert {"error", "scaled", "bias", "variance", "cosine"} <= set(heading.split())
    assert max(map(len, shown)) <= width
    (line,) = [line for line in shown if line.split()[:1] == ["StraightThrough"]]
    assert line.count(">10,000") >= 3
    (left_out,) = re.findall("no room here for: (.*); all", " ".join(shown))
    headings = re.split(r",\s+", left_out)
    assert len(set(headings)) == len(headings)


def test_options_with_a_value_per_row_keep_theirs():
    problem = mlp(2, 4)
    logits = problem.logits.expand(2, -1, -1)
    both = gradient_report(problem.loss(), logits, [ReinMax(temperature=[1.0, 1.6])], draws=2000).rows[0]
    assert both.not_applicable == ""


class Own(Estimator):
    """Leave-one-out under another name."""

    def estimate(self, logits, f):
        return LeaveOneOut(2).estimate(logits, f)


def test_an_estimator_of_ones_own_is_measured():
    problem = mlp(2, 4)
    row = gradient_report(problem.loss(), problem.logits[None], {"mine": Own()}, draws=2000).rows[0]
    assert row.name == "mine"
    assert row.relative_bias_low == 0
