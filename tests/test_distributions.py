"""OneHotCategorical beside torch's own, and what it adds: estimators, masks, uniform mixing."""

import pytest
import torch
from torch import Tensor, distributions, nn
from torch.distributions import Independent, kl_divergence

from ils_lightning.distributions import OneHotCategorical
from ils_lightning.estimators import (
    DecoupledStraightThroughGumbelSoftmax,
    GumbelSoftmax,
    ILSNewton,
    LeaveOneOut,
    ReinMax,
    SparseMixer,
    TopKSubset,
)
from ils_lightning.functional import unimix

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INF = float("inf")


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradient(make: type, name: str, values: Tensor, weight: Tensor) -> Tensor:
    leaf = values.clone().requires_grad_()
    (make(**{name: leaf}).rsample() * weight).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("name", ["probs", "logits"])
def test_gradients_of_straight_through_are_those_of_torch(name):
    given = randn(7, 4, 5).exp() if name == "probs" else randn(7, 4, 5)
    weight = randn(7, 4, 5, seed=1)
    expected = gradient(distributions.OneHotCategoricalStraightThrough, name, given, weight)
    torch.testing.assert_close(gradient(OneHotCategorical, name, given, weight), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", ["ReinMax", lambda: ReinMax(temperature=1.3), "ILSCV", ILSNewton])
@pytest.mark.parametrize("batch", [(), (6,), (6, 2), (3, 6, 2)])
def test_draws_are_one_hot_of_the_batch_and_sample_shape(batch, make):
    estimator = make if isinstance(make, str) else make()
    d = OneHotCategorical(logits=randn(*batch, 3).requires_grad_(), estimator=estimator, validate_args=True)
    for shape in ((), (2,), (2, 5)):
        for z in (d.rsample(shape), d.sample(shape)):
            assert z.shape == (*shape, *batch, 3)
            assert torch.equal(z.sum(dim=-1), torch.ones((*shape, *batch)))
            assert d.log_prob(z).shape == (*shape, *batch)
    assert d.rsample().requires_grad
    assert not d.sample().requires_grad


def test_draws_follow_the_probabilities():
    torch.manual_seed(0)
    p = torch.tensor([0.1, 0.0, 0.6, 0.3])
    for z in (OneHotCategorical(probs=p).rsample((40_000,)), OneHotCategorical(logits=p.log()).sample((40_000,))):
        score = (z.mean(dim=0) - p) / (p * (1 - p) / 40_000).sqrt().clamp(min=1e-9)
        assert score.abs().max() < 4.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_are_kept(dtype):
    logits = randn(6, 2, 3).to(dtype).requires_grad_()
    d = OneHotCategorical(logits=logits, estimator="ReinMax", unimix=0.01)
    z = d.rsample()
    (z * randn(6, 2, 3, seed=1).to(dtype)).sum().backward()
    assert z.dtype == d.entropy().dtype == logits.grad.dtype == dtype
    assert torch.isfinite(logits.grad).all()


def test_what_torch_has_is_as_torch_has_it():
    logits = randn(4, 2, 3)
    ours, theirs = OneHotCategorical(logits=logits), distributions.OneHotCategorical(logits=logits)
    assert torch.equal(ours.enumerate_support(), theirs.enumerate_support())
    for what in ("mode", "mean", "variance", "probs", "logits", "batch_shape", "event_shape", "support"):
        assert str(getattr(ours, what)) == str(getattr(theirs, what))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    q = distributions.OneHotCategorical(logits=randn(4, 2, 3, seed=1))
    expected = kl_divergence(theirs, q)
    for other in (q, OneHotCategorical(logits=q.logits)):
        torch.testing.assert_close(kl_divergence(ours, other), expected)
        torch.testing.assert_close(kl_divergence(Independent(ours, 1), Independent(other, 1)), expected.sum(-1))
    torch.testing.assert_close(kl_divergence(theirs, OneHotCategorical(logits=q.logits)), expected)


def test_expanded_it_keeps_the_estimator_and_the_mixture():
    d = OneHotCategorical(logits=randn(1, 3), estimator="ReinMax", unimix=0.5).expand((4, 2))
    assert isinstance(d.estimator, ReinMax)
    assert d.rsample().shape == (4, 2, 3)
    torch.testing.assert_close(d.probs[0, 0], 0.5 * randn(1, 3)[0].softmax(-1) + 0.5 / 3)
    assert Independent(d, 2).expand((5, 4, 2)[:0]).rsample().shape == (4, 2, 3)


def test_masked_categories_have_no_part_in_anything():
    logits = torch.tensor([[0.0, 1.0, -INF], [0.0, -INF, -INF]], requires_grad=True)
    p, even = OneHotCategorical(logits=logits, unimix=0.1), OneHotCategorical(logits=torch.zeros(2, 3))
    for value in (p.entropy(), kl_divergence(p, even), kl_divergence(p, p)):
        (g,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
        assert torch.isfinite(value).all()
        assert torch.isfinite(g).all()
    (g,) = torch.autograd.grad((p.rsample() * randn(2, 3)).sum(), logits)
    assert torch.isfinite(g).all()
    assert (g[logits == -INF] == 0).all()
    assert (p.sample((1000,)).sum(dim=0)[logits == -INF] == 0).all()
    assert kl_divergence(even, p).isinf().all()


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_mixture_is_one_distribution_in_draw_divergence_and_gradient(share):
    theta, weight = randn(1, 1, 4).double().requires_grad_(), randn(4, seed=2).double()
    p = (1 - share) * theta.softmax(-1) + share / 4
    d = OneHotCategorical(logits=theta, unimix=share)
    torch.testing.assert_close(d.probs, p)
    torch.testing.assert_close(d.entropy(), -(p * p.log()).sum(-1))
    torch.testing.assert_close(unimix(theta, share).exp(), p)
    (expected,) = torch.autograd.grad((p * weight).sum(), theta)
    (found,) = torch.autograd.grad((d.rsample() * weight).sum(), theta)
    torch.testing.assert_close(found, expected)  # straight-through is exact for a linear loss, in every draw


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({}, "probs"),
        ({"probs": torch.ones(3), "logits": torch.zeros(3)}, "probs"),
        ({"probs": torch.tensor([-1.0, 3.0])}, "probs"),
        ({"logits": torch.tensor([float("nan"), 0.0])}, "parameter (probs|logits)"),
        ({"logits": torch.zeros(3), "estimator": LeaveOneOut()}, "no draw that can be differentiated"),
        ({"logits": torch.zeros(3), "estimator": "ILSNewton"}, "instance"),
        ({"logits": torch.zeros(3), "estimator": "Reinmax"}, "nearest is 'ReinMax'"),
        ({"logits": torch.zeros(3), "unimix": 1.0}, r"\[0, 1\)"),
    ],
)
def test_refusals(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        OneHotCategorical(**arguments, validate_args=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("given", ["probs", "logits"])
@pytest.mark.parametrize("categories", [3, 100])
def test_every_precision_is_valid_and_differentiable(dtype, given, categories):
    x = randn(40, categories).softmax(-1) if given == "probs" else randn(40, categories)
    x = x.to(dtype).requires_grad_()
    d = OneHotCategorical(**{given: x}, estimator="ReinMax", unimix=0.01, validate_args=True)
    even = OneHotCategorical(logits=torch.zeros(categories, dtype=dtype), validate_args=True)
    z = d.rsample()
    assert z.dtype == d.entropy().dtype == dtype
    (z[:, 0].sum() + d.log_prob(z.detach()).sum() + d.entropy().sum() + kl_divergence(d, even).sum()).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    "estimator",
    [DecoupledStraightThroughGumbelSoftmax(forward_temperature=2.0), TopKSubset(2), SparseMixer(), GumbelSoftmax()],
)
def test_refuses_draws_that_do_not_follow_the_distribution(estimator):
    with pytest.raises(ValueError, match=r"one category from softmax\(logits\)"):
        OneHotCategorical(logits=torch.zeros(3), estimator=estimator)


class Cell(nn.Module):
    """The stochastic part of a Dreamer's recurrent state-space cell, written for torch's classes."""

    def __init__(self, one_hot: type) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one_hot, self.gru = one_hot, nn.GRUCell(12 + 2, 8)
        self.prior, self.posterior = nn.Linear(8, 12), nn.Linear(8 + 5, 12)

    def distribution(self, x: Tensor) -> Independent:
        return Independent(self.one_hot(logits=x.unflatten(-1, (3, 4))), 1)

    def forward(self, h: Tensor, z: Tensor, action: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.gru(torch.cat([z.flatten(-2), action], dim=-1), h)
        prior, posterior = self.distribution(self.prior(h)), self.distribution(self.posterior(torch.cat([h, seen], -1)))
        return h, posterior.rsample(), kl_divergence(posterior, prior)


def test_recurrent_cell_of_a_world_model_runs_with_the_import_changed():
    for one_hot in (OneHotCategorical, distributions.OneHotCategoricalStraightThrough):
        cell, h, z, total = Cell(one_hot), torch.zeros(6, 8), torch.zeros(6, 3, 4), torch.zeros(6)
        for step in range(4):
            h, z, kl = cell(h, z, randn(6, 2, seed=step), randn(6, 5, seed=step))
            total = total + kl + (z * randn(6, 3, 4, seed=step)).sum(dim=(-2, -1))
        total.mean().backward()
        assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in cell.parameters())


def test_in_a_pyro_model_the_guide_learns_the_posterior():
    pyro = pytest.importorskip("pyro", reason="Pyro is an optional part")
    from pyro.infer import SVI, Trace_ELBO

    from ils_lightning.distributions.pyro import OneHotCategorical as InPyro

    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    cost = torch.tensor([0.0, 1.0, 2.0])

    def model() -> None:
        with pyro.plate("rows", 50):
            z = pyro.sample("z", InPyro(logits=torch.zeros(50, 3)))
            pyro.factor("loss", -(z * cost).sum(-1))

    def guide() -> None:
        theta = pyro.param("theta", torch.zeros(3))
        with pyro.plate("rows", 50):
            pyro.sample("z", InPyro(logits=theta.expand(50, 3), estimator="ReinMax"))

    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(300):
        svi.step()
    found = pyro.param("theta").detach().softmax(-1)
    torch.testing.assert_close(found, (-cost).softmax(-1), rtol=0, atol=0.03)


def test_one_batch_axis_is_rows_whatever_the_sample_shape():
    estimator = ILSNewton()
    (OneHotCategorical(logits=randn(6, 3).requires_grad_(), estimator=estimator).rsample((4,)) ** 2).sum().backward()
    assert estimator.S.shape == (1, 3, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_probabilities_in_half_precision_are_taken_by_default(dtype):
    p = torch.rand(50, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert OneHotCategorical(probs=p).expand((2, 50)).rsample().shape == (2, 50, 7)
