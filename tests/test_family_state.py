"""What the members of the ILS family remember, when they learn it, and the cases in which they must not."""

import copy

import pytest
import torch
from torch import Tensor

from ils_lightning.estimators import (
    ILSCV,
    AdaptiveImplicitMLE,
    Average,
    ILSDiagonal,
    ILSIsotropic,
    ILSJoint,
    ILSLowRank,
    ILSNewton,
    ILSTempered,
    ILSTemperedDiagonal,
    Reinforce,
    ReinMax,
    learnt,
)

POOLED = [ILSNewton, ILSDiagonal, ILSIsotropic, ILSJoint, ILSLowRank]
EVERY = [ILSCV, *POOLED]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def loss(z: Tensor) -> Tensor:
    weights = torch.linspace(-1, 2, z.shape[-1], dtype=z.dtype)
    return ((z * weights).sum(dim=(-2, -1)) - 0.3).square() + z[..., 0].sum(dim=-1)


def gradient(estimator, logits: Tensor, f=loss, scale=1.0, seed=3) -> Tensor:
    torch.manual_seed(seed)
    leaf = logits.detach().clone().requires_grad_()
    (estimator(leaf, f) * scale).sum().backward()
    return leaf.grad


def state(estimator) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in estimator.state_dict().items()}


@pytest.mark.parametrize("make", POOLED)
def test_resumed_estimator_continues_as_if_never_stopped(make):
    logits, first = torch.randn(32, 2, 4), make()
    for seed in range(3):
        gradient(first, logits, seed=seed)
    resumed, built = make(), make()
    built.build(2, 4)
    for other in (resumed, built):
        other.load_state_dict(first.state_dict())
    expected = gradient(copy.deepcopy(first), logits)
    assert not torch.equal(expected, gradient(make(), logits))
    torch.testing.assert_close(gradient(resumed, logits), expected, rtol=0, atol=0)
    torch.testing.assert_close(gradient(built, logits), expected, rtol=0, atol=0)
    assert state(resumed).keys() == state(first).keys()


@pytest.mark.parametrize("make", POOLED)
def test_evaluation_reads_and_never_learns(make):
    logits, estimator = torch.randn(32, 2, 4), make()
    gradient(estimator, logits)
    before = state(estimator)
    gradient(estimator.eval(), logits)
    torch.testing.assert_close(state(estimator), before, rtol=0, atol=0)
    gradient(estimator.train(), logits)
    assert any(not torch.equal(before[name], value) for name, value in state(estimator).items())


@pytest.mark.parametrize("make", POOLED)
def test_step_reads_the_state_before_it_learns(make):
    logits, estimator = torch.randn(32, 2, 4), make()
    gradient(estimator, logits)
    frozen = copy.deepcopy(estimator).eval()
    torch.testing.assert_close(gradient(estimator, logits), gradient(frozen, logits), rtol=0, atol=0)


@pytest.mark.parametrize("make", POOLED)
def test_non_finite_gradient_teaches_nothing(make):
    logits, estimator = torch.randn(8, 2, 4), make()
    gradient(estimator, logits)
    before = state(estimator)
    row = torch.arange(8) == 2
    gradient(estimator, logits, lambda z: loss(z) * torch.where(row, float("inf"), 1.0))
    counted = {name: value + 1 for name, value in before.items() if name == "steps"}
    torch.testing.assert_close(state(estimator), before | counted, rtol=0, atol=0)


def test_non_finite_row_leaves_the_other_rows_of_the_control_variate_finite():
    row = torch.arange(8) == 2
    grad = gradient(ILSCV(), torch.randn(8, 2, 4), lambda z: loss(z) * torch.where(row, float("nan"), 1.0))
    assert torch.isfinite(grad[~row]).all()


@pytest.mark.parametrize("make", POOLED)
@pytest.mark.parametrize("scale", [1e-3, 65536.0])
def test_curvature_is_that_of_one_example_whatever_scales_the_loss(make, scale):
    logits, plain, scaled = torch.randn(64, 2, 4).double(), make(), make()
    for seed in range(3):
        expected = gradient(plain, logits, seed=seed)
        torch.testing.assert_close(gradient(scaled, logits, scale=scale, seed=seed) / scale, expected)
    torch.testing.assert_close(state(scaled), state(plain))


@pytest.mark.parametrize("make", POOLED)
def test_estimate_has_the_unit_of_the_loss(make):
    logits, small, large = torch.randn(64, 2, 4).double(), make(), make()
    for seed in range(3):
        expected = 7 * gradient(small, logits, seed=seed)
        torch.testing.assert_close(gradient(large, logits, lambda z: 7 * loss(z), seed=seed), expected)


@pytest.mark.parametrize("make", POOLED)
def test_repeated_batch_has_the_same_curvature(make):
    logits, g = torch.randn(2, 64, 2, 4).double()
    pi, z = logits.softmax(dim=-1), torch.nn.functional.one_hot(torch.randint(4, (64, 2)), 4).double()
    once, thrice = make(), make()
    once.pullback(logits, pi, z, g)
    thrice.pullback(*(x.repeat(3, 1, 1) for x in (logits, pi, z, g)))
    torch.testing.assert_close(thrice.curvature(), once.curvature())


@pytest.mark.parametrize("make", POOLED)
def test_state_is_summed_over_ranks(make, monkeypatch):
    logits, alone, two = torch.randn(64, 2, 4), make(), make()
    gradient(alone, logits)
    monkeypatch.setattr(learnt, "sums_over_ranks", lambda *sums: [2 * x for x in sums])
    gradient(two, logits)
    torch.testing.assert_close(two.curvature(), alone.curvature())
    extensive = alone.statistics[-1]
    torch.testing.assert_close(getattr(two, extensive), 2 * getattr(alone, extensive))


@pytest.mark.parametrize("make", EVERY)
def test_masked_category_changes_nothing_for_the_others(make):
    logits = torch.randn(64, 2, 3).double()
    padded = torch.cat([logits, torch.full((64, 2, 2), float("-inf"))], dim=-1)
    weights = torch.tensor([0.5, -1.0, 2.0, 40.0, -30.0]).double()

    def f(z: Tensor) -> Tensor:
        return ((z * weights[: z.shape[-1]]).sum(dim=(-2, -1)) - 0.3).square()

    plain, ragged = make(), make()
    for seed in range(3):
        expected = gradient(plain, logits, f, seed=seed)
        given = gradient(ragged, padded, f, seed=seed)
        torch.testing.assert_close(given[..., :3], expected)
        assert (given[..., 3:] == 0).all()


@pytest.mark.parametrize("make", EVERY)
def test_rows_without_noise_and_single_categories_get_nothing(make):
    certain = torch.tensor([200.0, 0.0, 0.0]).expand(16, 2, 3)
    for logits in (certain, torch.zeros(16, 2, 1)):
        estimator = make()
        for seed in range(2):
            assert (gradient(estimator, logits, seed=seed) == 0).all()
        gradient(estimator, torch.randn_like(logits))
        assert torch.isfinite(gradient(estimator, logits)).all()


def test_control_variate_is_reinmax_for_one_row_two_rows_and_no_batch():
    for shape in ((1, 2, 4), (2, 2, 4), (2, 4)):
        logits = torch.randn(shape).double()
        torch.testing.assert_close(gradient(ILSCV(1.3), logits), gradient(ReinMax(1.3), logits))


@pytest.mark.parametrize("make", EVERY)
def test_autocast_keeps_full_precision(make):
    logits, plain, mixed = torch.randn(64, 2, 4), make(), make()
    for seed in range(2):
        expected = gradient(plain, logits, seed=seed)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            given = gradient(mixed, logits, seed=seed)
        torch.testing.assert_close(given, expected)
    half = gradient(mixed, logits.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.isfinite(half).all()


@pytest.mark.parametrize("make", POOLED)
def test_pools_over_every_batch_axis(make):
    logits, flat, deep = torch.randn(24, 2, 4), make(), make()
    for seed in range(2):
        expected = gradient(flat, logits, seed=seed)
        given = gradient(deep, logits.unflatten(0, (2, 3, 4)), lambda z: loss(z), seed=seed)
        torch.testing.assert_close(given.flatten(0, 2), expected)


@pytest.mark.parametrize("make", POOLED)
def test_base_may_differ_between_settings(make):
    logits = torch.randn(3, 8, 2, 4)
    gradient(make(base=[0.0, 0.5, 1.0]), logits)
    together = gradient(make(base=[0.0, 0.5, 1.0]), logits)
    torch.testing.assert_close(together[1], gradient(make(base=0.5), logits)[1])
    torch.testing.assert_close(together[2], gradient(ReinMax(), logits)[2])


def test_facts_follow_the_options():
    assert [make().exact_for for make in EVERY] == ["quadratic", *["linear"] * 5]
    assert [make(base=1.0).exact_for for make in POOLED] == ["quadratic"] * 5
    assert ILSCV(temperature=1.3).exact_for == "none"
    assert all(make.pooled for make in EVERY)
    assert Average(ILSNewton(), samples=2).pooled
    assert not Reinforce().pooled


@pytest.mark.parametrize("make", [ILSNewton, ILSDiagonal])
def test_other_shape_is_refused_by_name(make):
    estimator = make()
    gradient(estimator, torch.randn(8, 2, 4))
    with pytest.raises(ValueError, match=r"each layer needs its own instance.*= \[3, 4\]"):
        gradient(estimator, torch.randn(8, 3, 4))


SAMPLERS = [*EVERY, ILSTempered, ILSTemperedDiagonal, AdaptiveImplicitMLE]


@pytest.mark.parametrize("make", SAMPLERS)
def test_draws_without_a_batch_axis_are_refused_while_it_trains(make):
    logits = torch.randn(100, 4)
    with pytest.raises(ValueError, match=r"\[100, 4\].* 100 rows of one latent, hand over logits.unsqueeze\(-2\)"):
        make().sample(logits)
    assert make().sample(logits.unsqueeze(-2)).squeeze(-2).shape == logits.shape
    assert make().eval().sample(logits).shape == logits.shape
    with torch.no_grad():
        assert make().sample(logits).shape == logits.shape


@pytest.mark.parametrize("make", SAMPLERS)
def test_with_a_loss_one_row_is_one_row(make):
    assert gradient(make(), torch.randn(5, 4)).shape == (5, 4)


def test_what_pools_nothing_draws_of_any_shape():
    assert ReinMax().sample(torch.randn(100, 4)).shape == (100, 4)


@pytest.mark.parametrize("make", POOLED)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\); given 1"):
        make(decay=1.0)
    with pytest.raises(ValueError, match="base must be at least 0 and finite; given -1"):
        make(base=-1.0)


def test_negative_ridge_is_refused():
    with pytest.raises(ValueError, match=r"ridge must be from 0 to 1e\+06; given -0\.1"):
        ILSNewton(ridge=-0.1)
