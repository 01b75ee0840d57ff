"""Functional draws beside torch's, generators, axes and refusals."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ils_lightning.distributions import OneHotCategorical
from ils_lightning.estimators import ILSCV, ILSNewton, LeaveOneOut, ReinMax, StraightThrough
from ils_lightning.functional import gumbel_softmax, sample, unimix

INF = float("inf")


def score(z: Tensor, p: Tensor) -> Tensor:
    """z-scores of the mean of draws `[n, categories]` against probabilities."""
    return (z.mean(dim=0) - p) / (p * (1 - p) / len(z)).sqrt().clamp(min=1e-9)


def test_hard_gumbel_softmax_has_the_distribution_of_torch():
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, -2.0, -INF])
    z = gumbel_softmax(logits.expand(50_000, 4), tau=0.7, hard=True)
    assert score(z, logits.softmax(-1)).abs().max() < 4.5


@pytest.mark.parametrize("tau", [0.3, 2.0])
def test_soft_gumbel_softmax_has_the_moments_of_torch(tau):
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, -2.0]).expand(100_000, 3)
    ours, theirs = gumbel_softmax(logits, tau=tau), F.gumbel_softmax(logits, tau=tau)
    for moment in (ours, theirs), (ours.square(), theirs.square()), (ours.prod(-1, True), theirs.prod(-1, True)):
        gap = moment[0].mean(0) - moment[1].mean(0)
        assert (gap / ((moment[0].var(0) + moment[1].var(0)) / len(logits)).sqrt()).abs().max() < 4.5


@pytest.mark.parametrize("hard", [False, True])
def test_gradient_of_gumbel_softmax_has_the_mean_of_torchs(hard):
    torch.manual_seed(0)
    weight, found = torch.tensor([1.0, -2.0, 0.5]), []
    for function in (gumbel_softmax, F.gumbel_softmax):
        logits = torch.tensor([0.0, 1.0, -1.0]).repeat(100_000, 1).requires_grad_()
        (function(logits, tau=0.5, hard=hard) * weight).sum().backward()
        found.append(logits.grad)
    gap = found[0].mean(0) - found[1].mean(0)
    assert (gap / ((found[0].var(0) + found[1].var(0)) / 100_000).sqrt()).abs().max() < 4.5


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("estimator", ["ReinMax", StraightThrough(), "GumbelSoftmax", "ILSCV"])
def test_categories_may_be_any_axis(estimator, dim):
    logits = torch.randn(4, 4, 4, requires_grad=True)
    z = sample(logits, estimator, dim=dim)
    torch.testing.assert_close(z.sum(dim=dim), torch.ones(4, 4))
    (z * torch.randn(4, 4, 4)).sum().backward()
    torch.testing.assert_close(logits.grad.sum(dim=dim), torch.zeros(4, 4), rtol=0, atol=1e-5)


def test_rows_of_two_axes_are_pooled_over_as_one_latent():
    estimator = ILSNewton()
    for rows in (100, 37):
        sample(torch.randn(rows, 4, requires_grad=True), estimator).square().sum().backward()
    assert estimator.S.shape == (1, 4, 4)
    assert sample(torch.zeros(3), ReinMax()).sum() == 1


def test_a_generator_gives_the_noise_and_goes_on_and_the_global_one_stays():
    logits, generator = torch.zeros(50, 8), torch.Generator().manual_seed(3)
    state = torch.get_rng_state()
    first, second = (sample(logits, "ReinMax", generator=generator) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, second)
    again = torch.Generator().manual_seed(3)
    assert torch.equal(sample(logits, "ReinMax", generator=again), first)
    assert torch.equal(sample(logits, "ReinMax", generator=again), second)
    assert torch.equal(gumbel_softmax(logits, generator=again), gumbel_softmax(logits, generator=generator))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_uniform_mixing_is_right_and_its_gradient_finite_beside_masks(share):
    logits = torch.tensor([[0.0, 2.0, -INF, -1.0], [30.0, -INF, -INF, -INF]], dtype=torch.float64, requires_grad=True)
    there = logits > -INF
    expected = torch.where(there, (1 - share) * logits.softmax(-1) + share / there.sum(-1, keepdim=True), 0)
    torch.testing.assert_close(unimix(logits, share).softmax(-1), expected)
    (g,) = torch.autograd.grad(torch.where(there, unimix(logits, share), 0).sum(), logits)
    assert torch.isfinite(g).all()


@pytest.mark.parametrize(
    ("estimator", "rule"),
    [
        ("ILSJoint", "give an instance, ILSJoint"),
        ("reinmax", "nearest is 'ReinMax'"),
        (LeaveOneOut(), "no draw that can be differentiated"),
        ("LeaveOneOut", "no draw that can be differentiated"),
        ({"class_path": "ReinMax"}, "an instance or a name here, where a description would be read at every call"),
    ],
)
def test_refusals(estimator, rule):
    with pytest.raises(ValueError, match=rule):
        sample(torch.zeros(2, 3), estimator)


def test_refuses_a_temperature_of_zero_and_a_share_of_one():
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        gumbel_softmax(torch.zeros(2, 3), tau=0)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        unimix(torch.zeros(3), 1.0)


@pytest.mark.parametrize("hard", [False, True])
def test_a_learnt_temperature_has_its_gradient(hard):
    logits, weight = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    tau, step = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), 1e-6

    def value(tau, hard):
        torch.manual_seed(0)
        return (gumbel_softmax(logits, tau, hard) * weight).sum()

    value(tau, hard).backward()
    expected = (value(0.7 + step, False) - value(0.7 - step, False)) / (2 * step)
    torch.testing.assert_close(tau.grad, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        lambda x: sample(x, "ReinMax"),
        lambda x: gumbel_softmax(x, 0.5),
        lambda x: gumbel_softmax(x, 0.5, hard=True),
        lambda x: OneHotCategorical(logits=x, estimator="ReinMax", unimix=0.01, validate_args=False).rsample(),
    ],
    ids=["sample", "gumbel_softmax", "hard", "distribution"],
)
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler's own
def test_compiled_in_one_piece(draw):
    torch._dynamo.reset()
    torch.manual_seed(0)
    logits = torch.randn(6, 2, 3, requires_grad=True)
    z = torch.compile(draw, fullgraph=True, backend="aot_eager")(logits)
    torch.testing.assert_close(z.sum(dim=-1), torch.ones(6, 2))
    (z * torch.randn(6, 2, 3)).sum().backward()
    assert (logits.grad != 0).all()


@pytest.mark.parametrize(
    ("estimator", "dim", "rule"),
    [
        (ReinMax, -1, r"an instance or a name: give ReinMax\(\)"),
        ("Grouped", -1, "Grouped needs estimator and groups"),
        ("ReinMax", 4, "dim must be an axis"),
    ],
)
def test_says_what_is_no_draw(estimator, dim, rule):
    with pytest.raises(ValueError, match=rule):
        sample(torch.zeros(4, 2, 3), estimator, dim)


@pytest.mark.parametrize("made", [ILSNewton, ILSCV])
def test_rows_without_gradient_are_not_pooled(made):
    torch.manual_seed(0)
    logits, weight = torch.randn(40, 2, 3, dtype=torch.float64), torch.randn(40, 2, 3, dtype=torch.float64)
    used = torch.arange(40) < 30
    found = []
    for padding in (0.0, 5.0):
        torch.manual_seed(1)
        leaf = logits.masked_fill(~used[:, None, None], padding).requires_grad_()
        z = sample(leaf, made())
        (z * weight).square()[used].sum().backward()
        found.append(leaf.grad)
    torch.testing.assert_close(*found)
    assert (found[0][~used] == 0).all()


def test_refuses_a_temperature_for_each_entry():
    with pytest.raises(ValueError, match="tau is one number"):
        gumbel_softmax(torch.zeros(4, 2, 3), tau=torch.ones(4, 1, 1))
