"""Rows whose loss is not used, for its upstream gradient is 0 (padding, a mask), are no part of the batch.

What the other rows get, and what is learnt, is to the last digit what they would give without such rows, given the same
draws.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from examples import EXAMPLES, Example
from test_recovery import STATEFUL, ids
from torch import Tensor

from ils_lightning.estimators import (
    ILSCV,
    AdaptiveImplicitMLE,
    Average,
    Estimator,
    ILSNewton,
    MovingAverage,
    Pullback,
    Reinforce,
    ReinMax,
    base,
)
from ils_lightning.variables import ILSNatural, Poisson

USED, STEPS, LATENTS = 6, 4, 2
AVERAGES = [
    Example("Average-ILSNewton", lambda: Average(ILSNewton(), samples=3)),
    Example("Average-ILSCV", lambda: Average(ILSCV(), samples=3)),
    Example("Average-MovingAverage", lambda: Average(Reinforce(baseline=MovingAverage()), samples=3)),
]
POOLED = [e for e in EXAMPLES if e.make().pooled] + AVERAGES
TRIED = POOLED + [e for e in STATEFUL if not e.make().pooled]
UNUSED = [6, 114]
"""As many as the used rows, and 95 per cent of all."""


def noise_of_used_rows(rows: int, whole: int) -> Callable[..., Tensor]:
    """A `torch.rand` that draws for the whole batch and keeps the first rows."""
    draw = torch.rand

    def rand(*shape: Any, generator: Any = None, **options: Any) -> Tensor:
        del generator
        sizes = list(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else list(shape)
        axis = sizes.index(rows)
        sizes[axis] = whole
        return draw(sizes, **options).narrow(axis, 0, rows)

    return rand


def found(example: Example, rows: int, offset: float, whole: int) -> dict[str, Tensor]:
    """Gradients of the used rows at each step, of own parameters at the last, and the state."""
    torch.manual_seed(0)
    estimator = example.make()
    K = 2 if estimator.binary else 4
    estimator.build(LATENTS, K)
    estimator.double()
    logits, x = torch.randn(2, whole, LATENTS, K, dtype=torch.float64)
    W = torch.randn(LATENTS * K, 5, dtype=torch.float64)
    used = torch.arange(rows) < USED
    off = torch.where(used, 0.0, offset).double()

    def f(z: Tensor) -> Tensor:
        return torch.tanh((z * (1 + off[..., None, None]) + x[:rows]).flatten(-2) @ W).sum(dim=-1) + off

    gradients = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", noise_of_used_rows(rows, whole))
        for _ in range(STEPS):
            leaf = logits[:rows].clone().requires_grad_()
            estimator.zero_grad()
            torch.where(used, estimator(leaf, f), 0).sum().backward()
            assert leaf.grad is not None
            assert (leaf.grad[USED:] == 0).all()
            gradients.append(leaf.grad[:USED])
    own = {f"gradient of {name}": p.grad for name, p in estimator.named_parameters() if p.grad is not None}
    return {"gradients": torch.stack(gradients), **own, **estimator.state_dict()}


def difference(example: Example, unused: int, offset: float) -> float:
    """Largest difference that unused rows make."""
    whole = USED + unused
    alone, padded = found(example, USED, 0.0, whole), found(example, whole, offset, whole)
    assert alone.keys() == padded.keys()
    return max((padded[name] - alone[name]).abs().max().item() for name in alone)


@pytest.mark.parametrize("unused", UNUSED)
@pytest.mark.parametrize("example", TRIED, ids=ids)
def test_unused_rows_change_nothing(example: Example, unused: int):
    assert difference(example, unused, offset=40.0) < 1e-9


@pytest.mark.parametrize("example", POOLED, ids=ids)
def test_unused_rows_without_a_finite_loss_change_nothing(example: Example):
    assert difference(example, UNUSED[0], offset=float("nan")) < 1e-9


@pytest.mark.parametrize("example", TRIED, ids=ids)
def test_rows_counted_although_unused_would_change_something(example: Example, monkeypatch: pytest.MonkeyPatch):
    after = base._after
    monkeypatch.setattr(base, "_after", lambda *given: after(*given[:-1], torch.ones_like(given[-1])))
    monkeypatch.setattr(Pullback, "among", lambda estimator, counted, *draw: estimator.at_draw(*draw))
    assert difference(example, UNUSED[0], offset=40.0) > 1e-6


class Sloped:
    """A loss that knows its own gradient."""

    def __init__(self, a: Tensor) -> None:
        self.a = a

    def __call__(self, z: Tensor) -> Tensor:
        return ((z * self.a).sum(dim=-1) ** 3).sum(dim=-1)

    def closed_form_gradient(self, z: Tensor) -> Tensor:
        return 3 * self.a * (z * self.a).sum(dim=-1, keepdim=True) ** 2


@pytest.mark.parametrize("example", [e for e in POOLED if isinstance(e.make(), Pullback)], ids=ids)
def test_a_loss_that_knows_its_gradient_is_treated_like_any_other(example: Example):
    logits, given = torch.randn(12, LATENTS, 4, dtype=torch.float64), []
    known = Sloped(torch.randn(12, LATENTS, 4, dtype=torch.float64))
    for f in (known, lambda z: known(z)):
        torch.manual_seed(0)
        estimator, used = example.make().double(), torch.arange(12) < USED
        for _ in range(STEPS):
            leaf = logits.clone().requires_grad_()
            torch.where(used, estimator(leaf, f), 0).sum().backward()
        given.append({"gradient": leaf.grad, **estimator.state_dict()})
    torch.testing.assert_close(given[0], given[1])


def steep(z: Tensor) -> Tensor:
    return (z[..., 0].sum(dim=-1) - 0.3) ** 2 * z[..., 1].sum(dim=-1).exp()


@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1e6])
@pytest.mark.parametrize("example", [e for e in POOLED if e not in AVERAGES], ids=ids)
def test_rows_hardly_used_teach_as_much_as_others(example: Example, factor: float):
    given = []
    for c in (torch.ones(12), torch.tensor([1.0, factor] * 6)):
        torch.manual_seed(0)
        estimator = example.make()
        for _ in range(STEPS):
            leaf = torch.linspace(-1, 1, 12 * LATENTS * 4).sin().reshape(12, LATENTS, 4).requires_grad_()
            (c * estimator(leaf, steep)).sum().backward()
        assert leaf.grad is not None
        given.append({"gradient": leaf.grad / c[:, None, None], **estimator.state_dict()})
    torch.testing.assert_close(given[1], given[0], rtol=1e-4, atol=1e-5)


def test_other_variables_learn_from_used_rows_alone():
    def curvature(rows: int) -> Tensor:
        torch.manual_seed(0)
        estimator, theta = ILSNatural(Poisson()), torch.zeros(rows, 1, requires_grad=True)
        used = torch.arange(rows) < USED
        estimator(theta, lambda x: torch.where(used, 1.0, 100.0) * x.square().sum(dim=-1))[used].sum().backward()
        return estimator.P

    assert curvature(60) == curvature(USED)


@pytest.mark.parametrize(
    "estimator", [ReinMax(), ILSCV(), ILSNewton(), AdaptiveImplicitMLE()], ids=lambda one: type(one).__name__
)
def test_a_loss_is_what_f_says_where_the_slope_that_it_knows_is_infinite(estimator: Estimator):
    class Steep:
        def __call__(self, z: Tensor) -> Tensor:
            return 2 + 0 * z.sum(dim=(-2, -1))

        def closed_form_gradient(self, z: Tensor) -> Tensor:
            return torch.full_like(z, float("inf"))

    loss = estimator(torch.zeros(3, 1, 3, requires_grad=True), Steep())
    torch.testing.assert_close(loss.detach(), torch.full((3,), 2.0), rtol=0, atol=0)
