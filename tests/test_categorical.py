"""The primitives: exact draws at any number of categories, Gumbel noise, and the small algebra."""

import math

import pytest
import torch
from simulate import worst_score
from torch import Tensor

from ils_lightning.estimators import categorical
from ils_lightning.estimators.intermediate import simplex


def chi_square_z(counts: Tensor, pi: Tensor) -> float:
    """Standard score of Pearson's statistic, with its exact variance at any number of expected counts."""
    p, n, k = pi.double() / pi.double().sum(), counts.sum(), len(pi)
    statistic = ((counts - n * p).square() / (n * p)).sum()
    variance = 2 * (k - 1) + ((1 / p).sum() - k**2 - 2 * k + 2) / n
    return ((statistic - (k - 1)) / variance.sqrt()).item()


def heavy_head(categories: int) -> Tensor:
    """One frequent category, then many that share half a per cent: steps of the sum below float32's resolution."""
    pi = torch.full((categories,), 0.005 / (categories - 1))
    pi[0] = 0.995
    return pi


@pytest.mark.slow
@pytest.mark.parametrize("categories", [2, 5, 300, 131072])
@pytest.mark.parametrize("shape", ["random", "heavy head"])
def test_draws_follow_the_probabilities(shape: str, categories: int):
    pi = {"random": (3 * torch.randn(categories)).softmax(-1), "heavy head": heavy_head(categories)}[shape]
    index = categorical.draw_index(pi, 4_000_000)
    assert abs(chi_square_z(index.bincount(minlength=categories), pi)) < 4.5


def test_float32_sums_would_be_rejected():
    pi = heavy_head(131072)
    index = torch.searchsorted(pi.cumsum(dim=-1), torch.rand(4_000_000), right=True).clamp(max=131071)
    assert chi_square_z(index.bincount(minlength=131072), pi) > 4.5


def test_rows_draw_apart_from_each_other():
    pi = torch.tensor([[0.1, 0.9], [0.6, 0.4]]).expand(100_000, 2, 2)
    first = categorical.draw(pi)[..., 0].double()
    mean = torch.tensor([0.1, 0.6], dtype=torch.float64)
    error = (mean * (1 - mean) / 100_000).sqrt()
    assert worst_score(first.mean(dim=0) - mean, error, mean) < 1
    together, expected = (first[:, 0] * first[:, 1]).mean(), mean.prod()
    assert worst_score(together - expected, (expected * (1 - expected) / 100_000).sqrt(), expected) < 1


def test_masked_categories_are_never_drawn():
    logits = torch.tensor([-float("inf"), 0.0, -float("inf"), -20.0, -float("inf")])
    index = categorical.draw_index(categorical.softmax(logits), 1_000_000)
    assert set(index.unique().tolist()) <= {1, 3}


@pytest.mark.parametrize(("u", "index"), [(0.0, 1), (1 - 2**-53, 3)])
@pytest.mark.parametrize("scale", [1e-30, 0.1, 1.0, 1e30])
def test_ends_of_the_uniform_fall_on_possible_categories(monkeypatch, u: float, index: int, scale: float):
    monkeypatch.setattr(torch, "rand", lambda shape, dtype, **_: torch.full(shape, u, dtype=dtype))
    pi = scale * torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0])
    assert categorical.draw_index(pi).item() == index


def test_uniforms_are_float64_and_one_a_row(monkeypatch):
    rand, asked = torch.rand, []
    monkeypatch.setattr(torch, "rand", lambda *a, **k: asked.append(rand(*a, **k)) or asked[-1])
    categorical.draw(torch.full((6, 2, 1000), 1e-3))
    assert [(u.dtype, u.numel()) for u in asked] == [(torch.float64, 12)]


def test_generator_is_the_only_source_when_given():
    pi, state = torch.full((50, 10), 0.1), torch.get_rng_state()
    one, two = (categorical.draw_index(pi, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_of_draws(dtype: torch.dtype):
    pi = torch.full((4, 2, 3), 1 / 3, dtype=dtype)
    assert categorical.draw(pi).shape == (4, 2, 3)
    assert categorical.draw(pi, 7).shape == (7, 4, 2, 3)
    assert categorical.draw_index(pi, 7).shape == (7, 4, 2)
    assert categorical.draw(pi).dtype == dtype
    assert (categorical.draw(pi).sum(dim=-1) == 1).all()


@pytest.mark.parametrize("categories", [1, 2, 15, 16, 40])
def test_softmax_and_its_gradient(categories: int):
    logits = torch.randn(3, 2, categories, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, categories, dtype=torch.float64)
    got, expected = categorical.softmax(logits), torch.softmax(logits, dim=-1)
    torch.testing.assert_close(got, expected)
    ours, theirs = (torch.autograd.grad((pi * weight).sum(), logits)[0] for pi in (got, expected))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(categorical.jacobian(got.detach(), weight), theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_probabilities_are_float32(dtype: torch.dtype):
    logits = torch.tensor([1e4, -1e4, -float("inf")], dtype=dtype)
    assert categorical.softmax(logits).tolist() == [1, 0, 0]
    assert categorical.softmax(logits).dtype == categorical.log_softmax(logits).dtype == torch.float32


def test_log_prob_is_linear_in_relaxed_values_and_blind_to_masks():
    logits = torch.tensor([0.3, -1.0, -float("inf")])
    log_pi = torch.log_softmax(logits, dim=-1)
    z = torch.tensor([0.25, 0.75, 0.0])
    torch.testing.assert_close(categorical.log_prob(logits, z), 0.25 * log_pi[0] + 0.75 * log_pi[1])


def test_states_are_enumerated_with_the_last_latent_fastest():
    states = categorical.enumerate_states(2, 3, torch.zeros(()).expand(3))
    assert states.argmax(dim=-1).tolist() == [[i, j] for i in range(3) for j in range(3)]


def test_entropy():
    pi = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(categorical.entropy(pi), torch.tensor([math.log(2), 0.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("end", ["smallest", "largest"])
def test_gumbel_is_finite_at_both_ends_of_the_uniform(monkeypatch, dtype: torch.dtype, end: str):
    u = {"smallest": 0.0, "largest": 1 - torch.finfo(dtype).eps / 2}[end]
    monkeypatch.setattr(torch, "rand", lambda shape, dtype, **_: torch.full(shape, u, dtype=dtype))
    noise = categorical.gumbel(torch.zeros(3, dtype=dtype))
    assert torch.isfinite(noise).all()
    assert (categorical.exponential(noise) > 0).all()


def moments_agree(x: Tensor, mean: float | Tensor, square: float | Tensor) -> float:
    """Worst score of the first two moments of replicates `[rows, ...]`."""
    both = torch.stack([x, x.square()], dim=1)
    away = both.mean(dim=0) - torch.stack([torch.as_tensor(mean), torch.as_tensor(square)]).to(both)
    return worst_score(away, both.std(dim=0) / len(x) ** 0.5, torch.ones(()))


def test_gumbel_moments():
    x = categorical.gumbel(torch.zeros(500_000, dtype=torch.float64))
    euler = 0.5772156649015329
    assert moments_agree(x, euler, math.pi**2 / 6 + euler**2) < 1


def two_samples(x: Tensor, y: Tensor) -> float:
    """Worst score of the difference of two samples in the first two moments and two bounded functions."""
    features = [torch.stack([v, v.square(), v.tanh(), (-v.exp()).exp()], dim=1) for v in (x, y)]
    error = sum(v.var(dim=0) / len(v) for v in features)
    return worst_score(features[0].mean(dim=0) - features[1].mean(dim=0), torch.as_tensor(error).sqrt(), torch.ones(()))


@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_conditional_gumbel_has_the_law_of_rejection(drawn: int):
    logits = torch.tensor([1.5, -0.5, 0.3], dtype=torch.float64).expand(400_000, 3)
    perturbed = logits + categorical.gumbel(logits)
    kept = perturbed[perturbed.argmax(dim=-1) == drawn]
    z = categorical.one_hot(torch.full((len(logits),), drawn), logits)
    conditional = categorical.conditional_gumbel(logits, z)
    assert (conditional.argmax(dim=-1) == drawn).all()
    assert two_samples(conditional, kept) < 1
    shifted = conditional + 0.05 * z
    assert two_samples(shifted, kept) > 1


def test_conditional_gumbel_is_differentiable_with_the_noise_held(monkeypatch):
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    z, u = categorical.draw(categorical.softmax(logits.detach())), torch.rand(4, 3, dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: u)
    assert torch.autograd.gradcheck(lambda x: categorical.conditional_gumbel(x, z), logits)


def test_simplex_projection_is_the_nearest_point():
    v = 3 * torch.randn(500, 7, dtype=torch.float64)
    x = simplex(v)
    assert (x >= 0).all()
    torch.testing.assert_close(x.sum(dim=-1), torch.ones(500, dtype=torch.float64))
    vertices = torch.eye(7, dtype=torch.float64)
    angle = torch.einsum("rk,rjk->rj", v - x, vertices - x.unsqueeze(1))
    assert angle.max() < 1e-12
    torch.testing.assert_close(simplex(vertices), vertices)
