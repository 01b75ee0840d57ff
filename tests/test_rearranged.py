"""Closed forms in few passes equal the papers' formulas, and draws in blocks have the law of `pi`."""

from collections.abc import Callable

import pytest
import torch
from test_categorical import chi_square_z, heavy_head
from torch import Tensor

from ils_lightning.estimators import (
    ILS,
    ILSCV,
    Hellinger,
    ILSJoint,
    ILSNewton,
    ILSTempered,
    Pullback,
    ReinMax,
    StraightThrough,
    categorical,
    ils_cv,
)
from ils_lightning.estimators.categorical import conditional_gumbel, jacobian, one_hot
from ils_lightning.estimators.gumbel_rao import rao
from ils_lightning.estimators.intermediate import few_of_simplex, simplex

FORMS = {
    "ILS": ILS,
    "ILS-natural": lambda: ILS(pullback="none"),
    "ILS-Hellinger": lambda: ILS(intermediate_loss=Hellinger()),
    "ILS-clip": lambda: ILS(normalizer="clip"),
    "ILS-one-a-row": lambda: ILS(step_size=[0.1, 0.2, 0.3]),
    "ReinMax": ReinMax,
    "ReinMax-1.3": lambda: ReinMax(temperature=1.3),
    "StraightThrough": StraightThrough,
    "ILSCV": ILSCV,
    "ILSCV-1.3": lambda: ILSCV(temperature=1.3),
}
LEARNING: dict[str, Callable[[], Pullback]] = {
    "ILSNewton": ILSNewton,
    "ILSNewton-0": lambda: ILSNewton(base=0.0),
    "ILSNewton-one-a-row": lambda: ILSNewton(base=[0.0, 0.5, 1.0]),
    "ILSJoint": ILSJoint,
    "ILSJoint-1": lambda: ILSJoint(base=1.0),
    "ILSTempered": ILSTempered,
    "ILSTempered-1": lambda: ILSTempered(temperature=1.0),
    "ILSTempered-one-a-row": lambda: ILSTempered(temperature=[0.7, 1.0, 1.5]),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("slope", [0.1, 30.0])
@pytest.mark.parametrize("categories", [2, 5, 40])
@pytest.mark.parametrize("name", FORMS)
def test_rearranged_forms_equal_the_formula(name: str, categories: int, slope: float, masked: bool):
    latents = 1 + (categories == 5)
    logits = torch.randn(3, 90, latents, categories, dtype=torch.float64)
    if masked and categories > 2:
        logits[0, :, :, 1] = -float("inf")
    pi = categorical.probabilities(logits)
    assert pi.is_contiguous() == (categories == 40)
    index, g = categorical.draw_index(pi), slope * torch.randn_like(logits)
    estimator = FORMS[name]().double()
    expected = estimator.pullback(logits, pi, one_hot(index, pi), g.clone())
    torch.testing.assert_close(estimator.rearranged(logits, pi, index, g), expected, rtol=1e-9, atol=1e-9 * slope)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("categories", [2, 5, 40])
@pytest.mark.parametrize("name", LEARNING)
def test_rearranged_forms_with_what_was_learnt_equal_the_formula_and_learn_the_same(
    name: str, categories: int, masked: bool
):
    logits = torch.randn(3, 30, 3, categories, dtype=torch.float64)
    logits[0, :, :, 1] = -float("inf") if masked and categories > 2 else 0.0
    pi, size = categorical.probabilities(logits), 3 * categories
    root = torch.randn(size, size, dtype=torch.float64)
    one, two = LEARNING[name]().double(), LEARNING[name]().double()
    for _ in range(25):
        index = categorical.draw_index(pi)
        z = one_hot(index, pi)
        g = (z.flatten(-2) @ (root + root.T)).view_as(z) + torch.randn_like(z)
        expected = two.pullback(logits, pi, z, g)
        torch.testing.assert_close(one.rearranged(logits, pi, index, g), expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(one.state_dict(), two.state_dict(), rtol=1e-8, atol=1e-8)
    assert expected.abs().max() > 0.1


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("shape", [(50, 1, 7), (10, 5, 2, 7), (50, 1, 40), (1, 1, 40), (0, 2, 40), (2, 40)])
def test_control_variate_in_tiles_equals_the_formula(monkeypatch, shape: tuple, broken: bool):
    monkeypatch.setattr(ils_cv, "_CACHED", 100)
    monkeypatch.setattr(ils_cv, "_NARROWEST", 3)
    logits = torch.randn(shape, dtype=torch.float64)
    pi = categorical.probabilities(logits)
    index, g = categorical.draw_index(pi), torch.randn_like(logits)
    if broken and len(g):
        g[0, ..., 3] = float("nan")
    expected = ILSCV().pullback(logits, pi, one_hot(index, pi), g)
    estimate = ILSCV().rearranged(logits, pi, index, g)
    finite = expected.isfinite()
    torch.testing.assert_close(estimate[finite], expected[finite], rtol=1e-9, atol=1e-12)
    assert torch.equal(estimate.isfinite().all(dim=-1), finite.all(dim=-1))


def test_projected_rows_are_counted_like_those_of_the_formula():
    logits = torch.randn(200, 1, 5)
    pi = categorical.softmax(logits)
    index, g = categorical.draw_index(pi), 10 * torch.randn_like(logits)
    one, two = ILS(), ILS()
    one.rearranged(logits, pi, index, g)
    two.pullback(logits, pi, one_hot(index, pi), g)
    share = one.diagnostics()["fallback_share"]
    assert share == two.diagnostics()["fallback_share"]
    assert 0 < share < 1


@pytest.mark.parametrize("alpha", [0.1, 1.0, 1e6])
@pytest.mark.parametrize("categories", [2, 7, 300])
def test_few_of_simplex_are_all_that_is_positive_in_the_projection(categories: int, alpha: float):
    k = torch.randint(categories, (500, 1))
    step = (alpha * torch.randn(500, categories)).scatter_(-1, k, 0)
    step[:9] -= 10 * alpha
    step[9:20] = step[9:20].round()  # ties
    step.scatter_(-1, k, 0)
    expected = simplex(step.double().scatter_add(-1, k, torch.ones(500, 1, dtype=torch.float64)))
    found = torch.zeros_like(step)
    places, row, values = few_of_simplex(step.clone(), k)
    found.view(-1)[places] = values
    assert torch.equal(row, places // categories)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6 * max(1, alpha))
    assert (found == 0).any()


def test_rows_whose_step_is_not_finite_are_those_of_the_formula():
    logits = torch.randn(200, 1, 40)
    pi = categorical.softmax(logits)
    index, g = categorical.draw_index(pi), torch.randn_like(logits)
    g[::2, 0, 3] = float("inf")
    expected = ILS().pullback(logits, pi, one_hot(index, pi), g)
    assert torch.equal(expected.isfinite().all(dim=-1), (g[..., 3] < float("inf")))
    torch.testing.assert_close(ILS().rearranged(logits, pi, index, g), expected, equal_nan=True)


class Doubled(ReinMax):
    """Twice ReinMax, by the formula alone."""

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        return 2 * super().pullback(logits, pi, z, g)


def test_a_subclass_that_changes_the_formula_does_not_inherit_the_rearranged_form():
    estimators: list[Pullback] = [ReinMax(), Doubled()]
    logits, g = torch.randn(4, 2, 5, requires_grad=True), torch.randn(4, 2, 5)
    found = []
    for estimator in estimators:
        torch.manual_seed(0)
        found.append(torch.autograd.grad(estimator.sample(logits), logits, g)[0])
    torch.testing.assert_close(found[1], 2 * found[0])


def test_rao_averages_the_jacobians_of_conditional_gumbel_softmax(monkeypatch):
    theta = torch.randn(6, 2, 5, dtype=torch.float64)
    theta[0, 0, 1] = -float("inf")
    z, g = categorical.draw(categorical.softmax(theta)), torch.randn_like(theta)
    u = torch.rand(7, 6, 2, 5, dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: u)
    y = torch.softmax(conditional_gumbel(theta.expand_as(u), z.expand_as(u)) / 0.4, dim=-1)
    torch.testing.assert_close(rao(theta, z, g, 0.4, 7), jacobian(y, g).mean(dim=0) / 0.4)


def drawn_in_blocks(pi: Tensor, draws: int, chunk: int = 2048) -> Tensor:
    """Counts of draws by two levels, of which each looks into one block of its own."""
    counts = torch.zeros(len(pi), dtype=torch.long)
    for _ in range(draws // chunk):
        u = torch.rand(chunk, dtype=torch.float64)
        counts += categorical._invert_by_blocks(pi, u).bincount(minlength=len(pi))
    return counts


@pytest.mark.parametrize("categories", [256, 1000, 32_000])
@pytest.mark.parametrize("shape", ["random", "heavy head"])
def test_draws_in_blocks_follow_the_probabilities(shape: str, categories: int):
    pi = {"random": (3 * torch.randn(categories)).softmax(-1), "heavy head": heavy_head(categories)}[shape]
    assert abs(chi_square_z(drawn_in_blocks(pi, 500_000), pi)) < 4.5


def test_draws_that_forget_where_the_uniform_fell_would_be_rejected():
    pi = (3 * torch.randn(1000)).softmax(-1)
    counts = drawn_in_blocks(pi, 500_000)
    shifted = torch.cat([counts[1:], counts[:1]])
    assert abs(chi_square_z(shifted, pi)) > 4.5


def test_blocks_draw_row_by_row_and_never_what_is_masked():
    pi = torch.zeros(50, 3, 1003)
    allowed = torch.randint(1003, (50, 3, 1))
    pi.scatter_(-1, allowed, 1.0)
    for samples in (None, 3):
        index = categorical.draw_index(pi, samples)
        assert torch.equal(index, allowed.squeeze(-1).expand_as(index))
    half = torch.arange(1003) % 2 * torch.rand(200, 1003)
    assert (categorical.draw_index(half, 9) % 2 == 1).all()


@pytest.mark.slow
def test_more_categories_than_multinomial_takes():
    categories = 2**24 + 5
    pi = torch.zeros(categories)
    pi[[3, 2**24 + 1, 2**24 + 4]] = torch.tensor([1.0, 1.0, 2.0])
    index = torch.stack([categorical.draw_index(pi) for _ in range(20)])
    assert set(index.tolist()) == {3, 2**24 + 1, 2**24 + 4}


@pytest.mark.parametrize("categories", [5, 40, 300])
def test_draws_and_samplers_under_vmap(categories: int):
    pi = torch.full((3, 4, 2, categories), 1 / categories)
    index = torch.func.vmap(categorical.draw_index, randomness="different")(pi)
    assert index.shape == (3, 4, 2)
    assert len(index.unique()) > 1
    logits = torch.randn(4, 3, 2, categories, requires_grad=True)
    z = torch.func.vmap(ReinMax().sample, in_dims=1, out_dims=1, randomness="different")(logits)
    g = torch.randn_like(logits)
    (estimate,) = torch.autograd.grad(z, logits, g)
    expected = ReinMax().pullback(logits, logits.softmax(-1), z.detach(), g)
    torch.testing.assert_close(estimate, expected)
    with pytest.raises(ValueError, match="randomness='different', or 'same'"):
        torch.func.vmap(ReinMax().sample)(logits)


def test_samplers_under_vmap_take_one_noise_where_asked_to():
    logits = torch.randn(3, 2, 50).expand(4, 3, 2, 50).clone().requires_grad_()
    z = torch.func.vmap(ReinMax().sample, randomness="same")(logits)
    assert torch.equal(z, z[:1].expand_as(z))
    other = torch.func.vmap(ReinMax().sample, randomness="different")(logits)
    assert not torch.equal(other, other[:1].expand_as(other))
    torch.manual_seed(3)
    many = torch.func.vmap(ReinMax().sample, randomness="same")(logits)
    torch.manual_seed(3)
    torch.testing.assert_close(many[2], ReinMax().sample(logits[2]))
    g = torch.randn_like(logits)
    (estimate,) = torch.autograd.grad(z, logits, g)
    torch.testing.assert_close(estimate, ReinMax().pullback(logits, logits.softmax(-1), z.detach(), g))
    with pytest.raises(ValueError, match="vmap within a vmap"):
        torch.func.vmap(torch.func.vmap(ReinMax().sample, randomness="same"), randomness="different")(logits)


def test_saved_for_backward_are_probabilities_and_drawn_categories():
    saved: list[Tensor] = []
    logits = torch.randn(6, 1, 1000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        ReinMax().sample(logits)
    assert sorted(x.numel() for x in saved) == [6, 6000, 6000]
    assert any(x.data_ptr() == logits.data_ptr() for x in saved)
