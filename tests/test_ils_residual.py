"""Unbiased members of the ILS family: score functions on the residual of a second-order model."""

import itertools
from collections.abc import Callable

import pytest
import torch
from random_problems import RandomProblem, noise
from torch import Tensor

from ils_lightning.estimators import (
    Estimator,
    ILSLeaveOneOut,
    ILSResidual,
    LeaveOneOut,
    MovingAverage,
    Reinforce,
    ils_leave_one_out,
)
from ils_lightning.estimators.ils_diagonal import ILSDiagonal

ROWS, LATENTS, CATEGORIES = 50, 2, 4


def one_hot(index: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(index, CATEGORIES).double()


def trusting(estimator: ILSLeaveOneOut, latents: int, coefficient: float) -> ILSLeaveOneOut:
    """The estimator with the weight that its models have."""
    estimator.build(latents, CATEGORIES)
    estimator.fit[0], estimator.fit[1] = coefficient, 1.0
    return estimator


@pytest.mark.parametrize("samples", [2, 3])
def test_leave_one_out_is_unbiased_for_every_table_and_curvature(samples):
    logits, values = torch.randn(1, CATEGORIES).double(), torch.randn(CATEGORIES).double()
    gradients, pi = torch.randn(CATEGORIES, CATEGORIES).double(), logits.softmax(dim=-1)
    estimator = trusting(ILSLeaveOneOut(samples).eval(), latents=1, coefficient=0.6)
    estimator.curvature.h = torch.randn(1, CATEGORIES).double()
    mean = torch.zeros_like(pi)
    for index in itertools.product(range(CATEGORIES), repeat=samples):
        drawn = torch.tensor(index)
        z = one_hot(drawn).unsqueeze(1)
        estimate = estimator._residual(pi.expand_as(z), z, values[drawn], gradients[drawn].unsqueeze(1))
        mean += pi[0, drawn].prod() * estimate
    torch.testing.assert_close(mean, pi * (values - pi @ values), rtol=1e-12, atol=1e-12)


def test_leave_one_out_has_no_variance_where_its_model_is_the_loss():
    curvature, linear = torch.randn(2, LATENTS, CATEGORIES).double()

    def f(z: Tensor) -> Tensor:
        return (z * (linear + curvature * z / 2)).sum(dim=(-2, -1))

    estimator = trusting(ILSLeaveOneOut().eval(), LATENTS, coefficient=1.0)
    estimator.curvature.h = curvature
    grad = gradient(estimator, torch.randn(LATENTS, CATEGORIES).double().expand(ROWS, -1, -1), f, seed=0)
    torch.testing.assert_close(grad, grad[:1].expand_as(grad))


def gradient(estimator: Estimator, logits: Tensor, f: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    torch.manual_seed(seed)
    leaf = logits.clone().requires_grad_()
    estimator(leaf, f).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def variance(estimator: Estimator, rows_differ: bool) -> float:
    """Summed variance of 120 estimates of 50 rows of a decoder's loss, after 20 steps of learning."""
    generator = torch.Generator().manual_seed(5)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    W, V, rows = randn(LATENTS * CATEGORIES, 16), randn(16, 12) / 4, ROWS if rows_differ else 1
    logits = randn(rows, LATENTS, CATEGORIES).expand(ROWS, -1, -1)
    target = (randn(rows, 12) > 0).double()

    def f(z: Tensor) -> Tensor:
        pixels = torch.relu(z.flatten(-2) @ W) @ V
        return (torch.nn.functional.softplus(pixels) - target * pixels).sum(dim=-1)

    for seed in range(20):
        gradient(estimator, logits, f, seed)
    return torch.stack([gradient(estimator, logits, f, 100 + seed) for seed in range(120)]).var(dim=0).sum().item()


@pytest.mark.slow
def test_model_of_the_loss_serves_rows_that_share_it_and_hardly_others():
    shared, unlike = (
        variance(ILSResidual(), differ) / variance(Reinforce(baseline=MovingAverage()), differ)
        for differ in (False, True)
    )
    assert shared < 0.3
    assert 0.7 < unlike < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("samples", [2, 4])
def test_models_of_the_other_draws_serve_rows_that_differ(samples):
    assert variance(ILSLeaveOneOut(samples), True) < 0.5 * variance(LeaveOneOut(samples), True)


def wave(latents: int, alike: bool) -> RandomProblem:
    """A cosine of steep phases: no model of second order explains it."""
    generator = torch.Generator().manual_seed(latents)
    W, x = 4 * torch.randn(latents * CATEGORIES, generator=generator), 2 * torch.randn(ROWS, generator=generator)
    logits = torch.randn(ROWS, latents, CATEGORIES, generator=generator)
    own = slice(1) if alike else slice(ROWS)
    return RandomProblem(
        "cos",
        CATEGORIES,
        latents,
        alike,
        logits[own].double().expand(ROWS, -1, -1),
        lambda z: torch.cos(z.flatten(-2) @ W.double() + x[own].double()),
    )


def worst_on_waves(samples: int) -> float:
    """Largest variance of `ILSLeaveOneOut` on them, relative to that of `LeaveOneOut`."""
    waves = [wave(latents, alike) for latents in (1, 2, 4) for alike in (True, False)]
    return max(noise(ILSLeaveOneOut(samples), f) / noise(LeaveOneOut(samples), f) for f in waves)


@pytest.mark.parametrize("samples", [2, 4])
def test_models_that_explain_nothing_add_no_variance(samples):
    assert worst_on_waves(samples) < 1.02


@pytest.mark.parametrize("samples", [2, 4])
def test_models_believed_whatever_they_explain_would_add_variance(samples, monkeypatch):
    monkeypatch.setattr(ils_leave_one_out, "coefficients", lambda fit: torch.ones_like(fit[0]))
    assert worst_on_waves(samples) > 2


@pytest.mark.slow
def test_curvature_is_what_serves():
    flat = ILSLeaveOneOut()
    flat.curvature = ILSDiagonal().eval()
    flat.curvature.update = lambda *sums: None
    assert variance(ILSLeaveOneOut(), True) < 0.8 * variance(flat, True)


@pytest.mark.parametrize("make", [ILSResidual, ILSLeaveOneOut])
def test_loss_without_a_gradient_is_refused(make):
    with pytest.raises(ValueError, match="needs a loss f that is differentiable in z"):
        make()(torch.zeros(3, 1, 2, requires_grad=True), lambda z: z.detach().sum(dim=(-2, -1)))


def test_single_sample_cannot_leave_one_out():
    with pytest.raises(ValueError, match="samples must be at least 2, to leave one out; given 1"):
        ILSLeaveOneOut(samples=1)
