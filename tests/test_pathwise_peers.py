"""The same draw and the same df/dz give the same answer as the peers, where a peer is installed and right."""

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ils_lightning.estimators import (
    EntmaxMarginal,
    GumbelSoftmax,
    ReinMax,
    SparsemaxMarginal,
    StraightThroughGumbelSoftmax,
    gumbel_softmax,
    straight_through_gumbel_softmax,
)
from ils_lightning.estimators.intermediate import simplex


def peer(name: str) -> ModuleType:
    return pytest.importorskip(name, reason=f"the {name} package is not installed")


@pytest.mark.parametrize("tau", [1.0, 1.3, 2.0])
def test_reinmax_equals_the_released_package(tau: float):
    reinmax = peer("reinmax").reinmax
    generator = torch.Generator().manual_seed(1)
    theta, g = (torch.randn(64, 3, 7, generator=generator) for _ in range(2))
    leaf = theta.clone().requires_grad_()
    z, _ = reinmax(leaf, tau)
    (released,) = torch.autograd.grad((z * g).sum(), leaf)
    ours = ReinMax(temperature=tau).pullback(theta, theta.softmax(dim=-1), z.detach(), g)
    torch.testing.assert_close(ours, released, rtol=0, atol=1e-6)


def test_reinmax_takes_what_the_released_package_refuses():
    reinmax = peer("reinmax").reinmax
    strided = torch.randn(7, 4, 3).permute(2, 1, 0).requires_grad_()
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        reinmax(strided, 1.0)
    ReinMax().sample(strided).square().sum().backward()
    assert strided.grad is not None


def with_noise_of_torch(monkeypatch: pytest.MonkeyPatch, module: ModuleType, theta: Tensor) -> None:
    """Lets our estimator see the noise which torch's gumbel_softmax draws for seed 7, and rewinds to that seed."""
    torch.manual_seed(7)
    noise = -torch.empty_like(theta).exponential_().log()
    monkeypatch.setattr(module, "gumbel", lambda like: noise)
    torch.manual_seed(7)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_gumbel_softmax_equals_that_of_torch(monkeypatch: pytest.MonkeyPatch, tau: float, hard: bool):
    theta, g = torch.randn(2, 64, 3, 7, dtype=torch.float64)
    module = straight_through_gumbel_softmax if hard else gumbel_softmax
    with_noise_of_torch(monkeypatch, module, theta)
    leaf, other = theta.clone().requires_grad_(), theta.clone().requires_grad_()
    expected = F.gumbel_softmax(leaf, tau=tau, hard=hard)
    ours = (StraightThroughGumbelSoftmax if hard else GumbelSoftmax)(tau).sample(other)
    torch.testing.assert_close(ours, expected)
    gradients = (torch.autograd.grad((y * g).sum(), x)[0] for y, x in ((ours, other), (expected, leaf)))
    torch.testing.assert_close(*gradients)


def test_temperature_zero_is_refused_where_torch_returns_nan():
    assert F.gumbel_softmax(torch.zeros(2, 3), tau=0).isnan().any()
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        StraightThroughGumbelSoftmax(temperature=0)


def test_projection_onto_the_simplex_equals_sparsemax():
    theta = torch.randn(100, 9, dtype=torch.float64)
    torch.testing.assert_close(simplex(theta), peer("entmax").sparsemax(theta, dim=-1))


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0, 2.5])
def test_sparse_marginals_equal_the_backward_of_entmax(alpha: float):
    entmax = peer("entmax")
    theta, a = torch.randn(50, 1, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    leaf = theta.clone().requires_grad_()
    mapping = {2.0: entmax.sparsemax, 1.5: entmax.entmax15}.get(alpha)
    xi = mapping(leaf, dim=-1) if mapping else entmax.entmax_bisect(leaf, alpha=alpha, dim=-1)
    (expected,) = torch.autograd.grad((xi * a).sum(), leaf)
    estimator = SparsemaxMarginal() if alpha == 2 else EntmaxMarginal(alpha)
    loss, gradient = estimator.estimate(theta, lambda z: (z * a).sum(dim=(-2, -1)))
    torch.testing.assert_close(loss, (xi * a).sum(dim=(-2, -1)).detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6)


def test_missing_entmax_library_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "entmax", None)
    with pytest.raises(ValueError, match=r"ils-lightning\[entmax\]"):
        EntmaxMarginal().build(1, 3)
