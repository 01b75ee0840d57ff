"""Second derivatives are right or refused, and rows that are not used give and teach nothing."""

import copy

import pytest
import torch
from examples import EXAMPLES, Example
from problems import expectation
from simulate import problem_for, size
from torch import Tensor

from ils_lightning.estimators import Average, Estimator, Exact, LeaveOneOut, MovingAverage, Reinforce, ReinMax
from ils_lightning.testing.laws import gradient

REPARAMETRISED = {
    "GumbelSoftmax",
    "StraightThroughGumbelSoftmax",
    "DecoupledStraightThroughGumbelSoftmax",
    "DecoupledStraightThroughGumbelSoftmax-.5",
    "Redge-.5",
    "Redge-2-.5",
    "RedgeCov-.5",
    "SparseMixer",
    "SparseMixerV2",
    "SparseMixerV2Star",
}
"""Autograd follows their draws to any order."""
ESTIMATES = [e for e in EXAMPLES if e.name not in REPARAMETRISED | {"Exact"}]


def squared(z: Tensor) -> Tensor:
    return 3 * (z[..., 0].sum(dim=-1) - 0.3).square()


def linear(z: Tensor) -> Tensor:
    return z[..., 0].sum(dim=-1)


def after_a_step(estimator: Estimator, theta: Tensor, f: object) -> Tensor:
    """A function of theta less a step down the gradient, as in meta-learning."""
    (g,) = torch.autograd.grad(estimator(theta, f).sum(), theta, create_graph=True)  # type: ignore[arg-type]
    return (theta - 5 * g).softmax(dim=-1)[..., 0].sum()


@pytest.mark.parametrize("f", [squared, linear])
@pytest.mark.parametrize("example", ESTIMATES, ids=str)
def test_second_derivatives_of_an_estimate_are_refused(example: Example, f: object):
    theta = torch.randn(4, *size(example.make()), requires_grad=True)
    ahead = after_a_step(example.make(), theta, f)
    with pytest.raises(ValueError, match="cannot be differentiated again"):
        ahead.backward()


def test_second_derivatives_of_the_expectation_are_exact():
    torch.manual_seed(0)
    theta = torch.randn(64, 1, 3, requires_grad=True)
    after_a_step(Exact(), theta, squared).backward()
    assert theta.grad is not None
    assert theta.grad.norm().item() == pytest.approx(1.2906, abs=1e-4)


@pytest.mark.parametrize("chunk", [2, 100])
def test_derivatives_of_all_orders_across_logits_and_parameters(chunk: int):
    theta, w = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)

    def f(z: Tensor, w: Tensor) -> Tensor:
        return (z * w).sum(dim=(-2, -1)).tanh()

    ours = torch.autograd.functional.hessian(lambda t, w: Exact(chunk=chunk)(t, lambda z: f(z, w)), (theta, w))
    expected = torch.autograd.functional.hessian(lambda t, w: expectation(t, lambda z: f(z, w)), (theta, w))
    torch.testing.assert_close(ours, expected)
    third = Exact(chunk=chunk)
    assert torch.autograd.gradgradcheck(lambda t: third(t, lambda z: f(z, w)), (theta.clone().requires_grad_(),))


@pytest.mark.parametrize("estimator", [ReinMax(), LeaveOneOut()], ids=["ReinMax", "LeaveOneOut"])
def test_parameters_inside_the_loss_have_second_derivatives(estimator: Estimator):
    theta, w = torch.randn(4, 1, 3, requires_grad=True), torch.tensor(0.7, requires_grad=True)
    loss = estimator(theta, lambda z: w**3 * z[..., 0].sum(dim=-1)).sum()
    (slope,) = torch.autograd.grad(loss, w, create_graph=True)
    (second,) = torch.autograd.grad(slope, w)
    torch.testing.assert_close(second, 2 * slope.detach() / w.detach())
    again = estimator(theta, lambda z: w**3 * z[..., 0].sum(dim=-1)).sum()
    (g,) = torch.autograd.grad(again, theta, create_graph=True)  # no error for who never takes the second derivative
    assert torch.isfinite(g).all()


def distances(target: Tensor, power: float = 2.0):
    """|first category's count - target| ** power: NaN for a NaN target, infinitely steep at 0 for a power of .5."""
    return lambda z: (z[..., 0].sum(dim=-1) - target).abs() ** power


BAD = {"nan": (float("nan"), 2.0), "inf": (float("inf"), 2.0), "slope": (0.0, 0.5)}


def learnt(estimator: Estimator) -> dict[str, Tensor]:
    """What an estimator has learnt: state, and gradients of its own parameters."""
    grads = {f"grad {n}": p.grad for n, p in estimator.named_parameters() if p.grad is not None}
    return {n: v.clone() for n, v in (estimator.state_dict() | grads).items()}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_rows_that_are_not_used_stay_apart_however_bad_their_loss(example: Example, bad: str):
    value, power = BAD[bad]
    estimator = example.make()
    latents, categories = size(estimator)
    estimator.build(latents, categories)
    used = torch.arange(6) < 4
    target = torch.where(used, 0.3, value)
    logits = torch.randn(6, latents, categories, requires_grad=True)
    for _ in range(3):
        logits.grad = None
        estimator(logits, distances(target, power))[used].mean().backward()
        assert logits.grad is not None
        assert (logits.grad[~used] == 0).all()
        assert torch.isfinite(logits.grad).all()
        assert (logits.grad[used] != 0).any()
    assert all(torch.isfinite(x).all() for x in learnt(estimator).values())
    assert all(torch.isfinite(x).all() for x in estimator.diagnostics().values())


OWN = [e for e in EXAMPLES if any(p.requires_grad for p in e.make().parameters())]


@pytest.mark.parametrize("example", OWN, ids=str)
def test_own_parameters_learn_from_the_rows_that_are_used_alone(example: Example):
    """The unused rows' loss makes no difference, and half the rows weigh as much as all of them would."""
    found = []
    for factor in (1.0, 50.0):
        torch.manual_seed(1)
        estimator = example.make().double()
        problem = problem_for(estimator, "mlp")
        estimator.build(*problem.logits.shape)
        weight = torch.tensor([1.0, 1.0, factor, factor], dtype=torch.float64)
        used = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
        logits = problem.logits.expand(4, -1, -1)
        gradient(estimator, logits, lambda z, w=weight, f=problem.base: w * f(z), scale=used)
        found.append(learnt(estimator))
    torch.testing.assert_close(found[0], found[1])
    assert max(x.abs().max() for n, x in found[0].items() if n.startswith("grad")) > 0


def test_own_parameters_follow_the_mean_square_of_the_used_rows():
    twin = Reinforce(baseline=Slope()).double()
    estimator = copy.deepcopy(twin)
    logits = torch.randn(4, 2, 3, dtype=torch.float64)
    gradient(estimator, logits, linear, scale=torch.tensor([2.0, 1.0, 0.0, 0.0]).double())
    torch.manual_seed(3)
    _, estimate = twin.estimate(logits, linear)
    (3 * estimate[:2].square().sum() / 2).backward()
    torch.testing.assert_close(*(e.get_parameter("baseline.slope").grad for e in (estimator, twin)))


class Slope(MovingAverage):
    """A baseline with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, logits: Tensor) -> Tensor:
        return self.slope * logits.sum(dim=(-2, -1))


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: Average(e, 3)], ids=["alone", "Average"])
def test_baseline_averages_the_losses_of_the_rows_that_are_used(wrap):
    baseline = MovingAverage()
    estimator = wrap(Reinforce(baseline=baseline))
    target = torch.tensor([1.0, 3.0, 10.0, float("nan")])
    loss = estimator(torch.zeros(4, 1, 3, requires_grad=True), lambda z: target + 0 * z.sum(dim=(-2, -1)))
    assert baseline.weight == 0  # nothing is known of what is used before backward
    loss[:2].sum().backward()
    assert baseline.average / baseline.weight == 2
    estimator.estimate(torch.zeros(4, 1, 3), lambda z: target + 0 * z.sum(dim=(-2, -1)))
    average = (2 * 0.9 + 14 / 3) / 1.9  # all finite rows, at once
    assert (baseline.average / baseline.weight).item() == pytest.approx(average)
