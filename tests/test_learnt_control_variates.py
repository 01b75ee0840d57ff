"""Rebar, Relax and network baselines: what trains on what, how far the variance falls, what a checkpoint keeps."""

import copy
from collections.abc import Callable

import pytest
import torch
from examples import EXAMPLES, Example
from torch import Tensor

from ils_lightning.estimators import (
    Average,
    Estimator,
    Exact,
    MovingAverage,
    MuProp,
    NetworkBaseline,
    Perceptron,
    Rebar,
    Reinforce,
    Relax,
    relaxation,
)
from ils_lightning.estimators.categorical import conditional_gumbel, draw, enumerate_states, softmax

LAZY: list[Callable[[], Estimator]] = [
    Relax,
    lambda: Relax(relaxed_loss=True),
    lambda: Relax(critic=Perceptron(hidden=7)),
    lambda: Reinforce(baseline=NetworkBaseline()),
    lambda: Average(Relax(), samples=2),
]
RELAXED: list[Callable[[], Estimator]] = [MuProp, Rebar, lambda: Rebar(samples=3), lambda: Relax(relaxed_loss=True)]


def toy(z: Tensor) -> Tensor:
    """REBAR's toy (b - .45)^2 for categories worth 0, 1/3, 2/3 and 1, summed over latents."""
    return (z @ torch.linspace(0, 1, z.shape[-1]).to(z) - 0.45).square().sum(dim=-1)


def train(estimator: Estimator, logits: Tensor, f: Callable, steps: int = 250, rate: float = 0.02) -> Estimator:
    """Lowers |estimate|^2 by the gradients that the loss's own backward delivers; the logits stay put."""
    torch.manual_seed(1)
    estimator.build(*logits.shape[-2:])
    optimizer = torch.optim.Adam(estimator.parameters(), lr=rate)
    leaf = logits.detach().clone().requires_grad_()
    for _ in range(steps):
        optimizer.zero_grad()
        estimator(leaf, f).mean().backward()
        optimizer.step()
    return estimator


def variance(estimator: Estimator, logits: Tensor, f: Callable, rows: int = 20_000) -> float:
    torch.manual_seed(2)
    _, estimate = estimator.estimate(logits.expand(rows, *logits.shape), f)
    return estimate.detach().var(dim=0).sum().item()


@pytest.mark.slow
def test_learning_lowers_the_variance_in_the_published_order():
    logits = torch.zeros(3, 4)
    rows = logits.expand(64, 3, 4)
    order = [
        variance(Reinforce(), logits, toy),
        variance(Rebar(), logits, toy),
        variance(train(Rebar(), rows, toy), logits, toy),
        variance(train(Relax(relaxed_loss=True), rows, toy), logits, toy),
    ]
    assert order == sorted(order, reverse=True)
    assert order[1] < 0.6 * order[0]
    assert order[2] < 0.9 * order[1]
    assert order[3] < 0.5 * order[1]


@pytest.mark.slow
def test_a_critic_alone_lowers_the_variance_of_a_black_box():
    logits = torch.zeros(3, 4)
    trained = train(Relax(), logits.expand(64, 3, 4), lambda z: toy(z).detach())
    assert variance(trained, logits, toy) < 0.2 * variance(Reinforce(), logits, toy)


def test_untrained_control_variates_that_are_not_learnt_have_no_gradient():
    estimator = Rebar(learnt=False)
    estimator(torch.zeros(5, 2, 3, requires_grad=True), toy).mean().backward()
    assert [p.requires_grad for p in estimator.parameters()] == [False, False]
    assert set(estimator.diagnostics()) == {"temperature", "eta"}


def test_temperature_and_eta_may_differ_from_row_to_row():
    logits = torch.randn(2, 50, 1, 3, dtype=torch.float64)
    both = Rebar(temperature=[0.3, 2.0], eta=[1.0, 0.5]).double()
    torch.manual_seed(1)
    _, estimate = both.estimate(logits, toy)
    for row, (tau, eta) in enumerate([(0.3, 1.0), (2.0, 0.5)]):
        torch.manual_seed(1)
        _, alone = Rebar(temperature=tau, eta=eta).double().estimate(logits, toy)
        torch.testing.assert_close(estimate[row], alone[row], rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_network_baseline_learns_the_baseline_of_least_variance_of_each_row():
    logits = torch.tensor([[[2.0, 0.0, -1.0]], [[-1.0, 0.5, 1.0]]])
    costs, offsets = torch.tensor([1.0, 4.0, -3.0]), torch.tensor([5.0, -2.0]).repeat(512)

    def f(z: Tensor) -> Tensor:
        return (z[..., 0, :] * costs).sum(dim=-1) + offsets

    estimator = Reinforce(baseline=NetworkBaseline())
    train(estimator, logits.repeat(512, 1, 1), f, steps=400)
    states = enumerate_states(1, 3, like=logits).unsqueeze(1)
    p = (states * softmax(logits)).sum(dim=(-2, -1))
    square = (states - softmax(logits)).square().sum(dim=(-2, -1))
    losses = (states[..., 0, :] * costs).sum(dim=-1) + offsets[:2]
    best = (p * square * losses).sum(dim=0) / (p * square).sum(dim=0)
    assert estimator.baseline is not None
    learnt = estimator.baseline(logits)
    assert (learnt - best).abs().max() < 0.3
    assert (best - (p * losses).sum(dim=0)).abs().min() > 0.6  # a regression on the losses would be told apart


@pytest.mark.parametrize("make", RELAXED)
def test_parameters_of_the_loss_learn_at_the_hard_draws_alone(make: Callable[[], Estimator]):
    theta = torch.randn(3, requires_grad=True)
    draws: list[Tensor] = []

    def f(z: Tensor) -> Tensor:
        draws.append(z.detach().clone())
        return torch.tanh((z * theta).sum(dim=-1)).square().sum(dim=-1)

    make()(torch.randn(8, 2, 3, requires_grad=True), f).sum().backward()
    got, theta.grad = theta.grad, None
    f(draws[0]).mean(dim=0).sum().backward()
    assert ((draws[0] == 0) | (draws[0] == 1)).all()
    assert not ((draws[1] == 0) | (draws[1] == 1)).all()
    assert torch.equal(got, theta.grad)


def test_rebar_is_biased_when_the_conditional_noise_is_held_fixed(monkeypatch: pytest.MonkeyPatch):
    def score() -> float:
        logits = torch.tensor([[0.5, -0.5, 0.0]], dtype=torch.float64)
        _, estimate = Rebar().double().estimate(logits.expand(100_000, 1, 3), toy)
        estimate, expected = estimate.detach(), Exact().estimate(logits, toy)[1]
        return ((estimate.mean(dim=0) - expected) / estimate.std(dim=0)).abs().max().item() * 100_000**0.5

    assert score() < 4.5
    held = lambda logits, z: conditional_gumbel(logits.detach(), z) + 0 * logits  # noqa: E731
    monkeypatch.setattr(relaxation, "conditional_gumbel", held)
    assert score() > 4.5


def test_conditional_gumbel_is_twice_differentiable_at_any_logits():
    def perturbed(logits: Tensor) -> Tensor:
        torch.manual_seed(3)
        return conditional_gumbel(logits, draw(softmax(logits.detach())))

    ordinary = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(perturbed, ordinary)
    assert torch.autograd.gradgradcheck(perturbed, ordinary)
    extreme = torch.tensor([[1e4, -1e4, 0.0, float("-inf")]]).requires_grad_()
    (first,) = torch.autograd.grad(softmax(perturbed(extreme) / 2)[..., 0].sum(), extreme, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), extreme)
    assert torch.isfinite(first).all()
    assert torch.isfinite(second).all()
    assert perturbed(extreme)[0, 3] == float("-inf")


@pytest.mark.parametrize("make", LAZY)
def test_sized_parameters_exist_after_build_and_survive_a_checkpoint(make: Callable[[], Estimator]):
    estimator = make()
    estimator.build(2, 3)
    names = {name for name, _ in estimator.named_parameters()}
    train(estimator, torch.randn(16, 2, 3), toy, steps=3)
    assert {name for name, _ in estimator.named_parameters()} == names
    fresh = make()
    fresh.load_state_dict(estimator.state_dict())
    torch.testing.assert_close(fresh.state_dict(), estimator.state_dict())
    logits = torch.randn(5, 2, 3)
    results = []
    for one in (estimator, fresh, copy.deepcopy(estimator)):
        torch.manual_seed(1)
        results.append(one.estimate(logits, toy)[1].detach())
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("make", LAZY)
def test_sized_parameters_are_made_at_first_use_and_learn_from_it(make: Callable[[], Estimator]):
    estimator = make()
    estimator(torch.randn(16, 2, 3, requires_grad=True), toy).mean().backward()
    assert max(p.grad.abs().max().item() for p in estimator.parameters() if p.grad is not None) > 0
    with pytest.raises(ValueError, match="built with, latents \\* categories = 6; given 8"):
        estimator(torch.randn(16, 2, 4, requires_grad=True), toy)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_first_call_makes_no_parameters(example: Example):
    estimator = example.make()
    before = {id(p) for p in estimator.parameters()}
    estimator(torch.randn(16, 2, 2, requires_grad=True), toy).mean().backward()
    assert {id(p) for p in estimator.parameters()} == before


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("make", LAZY)
def test_an_optimizer_made_before_the_first_call_trains_them(make: Callable[[], Estimator], optimizer: type):
    estimator = make()
    training = optimizer(estimator.parameters(), lr=0.01)
    before: dict[str, Tensor] = {}
    for _ in range(3):  # the last layer starts at zero, so the first learns from the second step on
        training.zero_grad()
        estimator(torch.randn(16, 2, 3, requires_grad=True), toy).mean().backward()
        before = before or {name: p.detach().clone() for name, p in estimator.named_parameters()}
        training.step()
    moved = [name for name, p in estimator.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) == len(before)


def test_a_critic_of_ones_own_takes_the_place_of_the_perceptron():
    class Slope(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Parameter(torch.ones(6))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x * self.a).sum(dim=-1)

    estimator = Relax(critic=Slope())
    estimator.build(2, 3)
    estimator(torch.randn(16, 2, 3, requires_grad=True), toy).mean().backward()
    assert estimator.critic.a.grad.abs().min() > 0


def test_reinforce_is_pooled_only_with_a_baseline_that_pools():
    assert Reinforce(baseline=MovingAverage()).pooled
    assert not Reinforce(baseline=NetworkBaseline()).pooled
    assert not Reinforce().pooled


@pytest.mark.parametrize("make", [Rebar, Relax, lambda: Relax(relaxed_loss=True)])
def test_logits_and_control_variate_train_together_to_the_minimum(make: Callable[[], Estimator]):
    estimator, logits = make(), torch.zeros(32, 1, 4, requires_grad=True)
    estimator.build(1, 4)
    optimizer = torch.optim.Adam([logits, *estimator.parameters()], lr=0.1)
    torch.manual_seed(1)
    for _ in range(100):
        optimizer.zero_grad()
        estimator(logits, toy).sum().backward()
        optimizer.step()
    assert Exact().estimate(logits, toy)[0].mean() < 0.06  # 0.14 at the start, 0.014 at best
