"""Variables that are not categorical: their laws, and that ILS on them keeps its word, by sums over all values.

Expectations are exact: over the values of a count (a Poisson one up to where nothing is left), by Gauss-Hermite
quadrature for a Gaussian. `MEANS` are those of three rows.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from simulate import Moments, worst
from torch import Tensor

from ils_lightning.describe import create, describe
from ils_lightning.estimators import DisArm, Exact, ILSNewton, ReinMax, StraightThrough
from ils_lightning.variables import (
    Bernoulli,
    Binomial,
    Gaussian,
    ILSNatural,
    NaturalFamily,
    Ordinal,
    Poisson,
    Variable,
)

THETA = torch.tensor([-0.8, 0.1, 0.9], dtype=torch.float64)
COUNTS = [Bernoulli(), Binomial(trials=6), Poisson()]
FAMILIES = [*COUNTS, Gaussian(scale=1.7)]
named = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
Function = Callable[[Tensor], Tensor]


def quadratic(x: Tensor) -> Tensor:
    return 0.7 * x.square() - 2 * x


def wave(x: Tensor) -> Tensor:
    return torch.sin(1.3 * x + 0.4)


def support(family: NaturalFamily, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Values `[points, rows]` and their probabilities, differentiable in theta for counts."""
    if isinstance(family, Gaussian):
        points, weights = np.polynomial.hermite_e.hermegauss(60)
        x = family.mean(theta) + family.scale * torch.from_numpy(points)[:, None]
        return x, torch.from_numpy(weights / weights.sum())[:, None].expand_as(x)
    top = 80 if isinstance(family, Poisson) else family.trials
    x = torch.arange(top + 1, dtype=theta.dtype)[:, None]
    log_base = -torch.lgamma(x + 1) if isinstance(family, Poisson) else family.choose[:, None]
    return x.expand(-1, len(theta)), (log_base + theta * x - family.log_partition(theta)).exp()


def gradient(family: NaturalFamily, f: Function) -> Tensor:
    """The derivative of E f(x) in theta, one for each row."""
    theta = THETA.clone().requires_grad_()
    x, p = support(family, theta)
    (found,) = torch.autograd.grad((p * f(x)).sum(), theta)
    return found


def derivative(f: Function, x: Tensor) -> Tensor:
    leaf = x.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(f(leaf).sum(), leaf)
    return g


def expectation(family: NaturalFamily, f: Function, base: float, h: Tensor | float = 0.0) -> Tensor:
    """E of the estimate for a given h, one for each row; the rows are latents, each with an h of its own."""
    ils = ILSNatural(family, base=base).eval()
    ils.build(len(THETA), 1)
    ils.P += 1
    ils.S += torch.as_tensor(h).double().reshape(-1, 1)
    x, p = support(family, THETA)
    estimate = ils.estimate(*(v.unsqueeze(-1) for v in (family.mean(THETA).expand_as(x), x, derivative(f, x))))
    return (p * estimate.squeeze(-1)).sum(dim=0)


def own_curvature(family: NaturalFamily, f: Function) -> Tensor:
    x, p = support(family, THETA)
    mu = family.mean(THETA)
    return (p * derivative(f, x) * (x - mu)).sum(dim=0) / family.variance(mu)


@named
def test_mean_variance_and_slope_are_the_derivatives_of_the_log_partition(family):
    theta = THETA.clone().requires_grad_()
    (mu,) = torch.autograd.grad(family.log_partition(theta).sum(), theta, create_graph=True)
    torch.testing.assert_close(mu, family.mean(theta))
    (second,) = torch.autograd.grad(mu.sum(), theta)
    V = family.variance(family.mean(THETA))
    torch.testing.assert_close(second, V)
    x, p = support(family, THETA)
    third = (p * (x - family.mean(THETA)) ** 3).sum(dim=0)
    torch.testing.assert_close(third, V * family.slope(family.mean(THETA)), rtol=1e-9, atol=1e-9)


@named
def test_draws_have_the_mean_and_the_variance(family):
    torch.manual_seed(0)
    mu = family.mean(THETA)
    moments = Moments()
    d = family.draw(mu.expand(200_000, -1)) - mu
    moments.add(torch.stack([d, d.square()], dim=-1))
    assert worst(moments, torch.stack([torch.zeros_like(mu), family.variance(mu)], dim=-1)) < 1


@named
@pytest.mark.parametrize("alpha", [0.01, 1.0])
def test_derivative_of_the_intermediate_loss_is_noise_plus_the_step(family, alpha):
    theta = THETA.clone().requires_grad_()
    x, p = support(family, THETA)
    mu = family.mean(THETA)
    target = x - alpha * family.variance(mu) * derivative(wave, x)
    (found,) = torch.autograd.grad((p.detach() * family.intermediate_loss(theta, target)).sum(), theta)
    torch.testing.assert_close(found / alpha, expectation(family, wave, base=0.0), rtol=1e-7, atol=1e-9)


def test_gaussian_step_is_the_reparameterisation_gradient_for_every_loss():
    family = Gaussian(scale=1.7)
    for base, h in ((0.0, 0.0), (0.5, 3.0), (1.0, -2.0)):
        torch.testing.assert_close(expectation(family, wave, base, h), gradient(family, wave), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("family", COUNTS, ids=lambda f: type(f).__name__)
def test_metric_halfway_to_the_draw_is_exact_for_quadratic_losses_with_any_curvature(family):
    for h in (0.0, 5.0):
        torch.testing.assert_close(expectation(family, quadratic, 1.0, h), gradient(family, quadratic))
    assert (expectation(family, quadratic, 0.0) - gradient(family, quadratic)).abs().max() > 1e-2


@pytest.mark.parametrize("f", [quadratic, wave])
@pytest.mark.parametrize("family", COUNTS, ids=lambda f: type(f).__name__)
def test_base_scales_the_distance_which_the_own_curvature_closes(family, f):
    mu, own = family.mean(THETA), own_curvature(family, f)
    reference = expectation(family, f, base=1.0)
    torch.testing.assert_close(expectation(family, f, 0.0, own), reference)
    away = family.variance(mu) * family.slope(mu) * (2.0 - own) / 2
    for s in (0.0, 0.5):
        torch.testing.assert_close(expectation(family, f, s, 2.0), reference + (1 - s**2) / (1 + s**2) * away)


def test_two_values_give_reinmax_draw_by_draw():
    theta = THETA.unsqueeze(-1)
    z = torch.eye(2, dtype=torch.float64)[:, None, None, :].expand(2, 3, 1, 2)
    logits, g = Bernoulli().logits(theta).expand_as(z), torch.tensor([0.7, -1.1]).double().reshape(2, 1, 1, 1)
    reinmax = ReinMax().pullback(logits, logits.softmax(dim=-1), z, g * torch.tensor([0.0, 1.0]).double())
    x, mu = Bernoulli().values(z).unsqueeze(-1), theta.sigmoid().unsqueeze(-1).expand(2, 3, 1, 1)
    torch.testing.assert_close(ILSNatural(Bernoulli(), base=1.0).eval().estimate(mu, x, g), reinmax[..., 1:])


class WrongSlope(Poisson):
    """A mistake the statistics must find."""

    def slope(self, mu: Tensor) -> Tensor:
        return -torch.ones_like(mu)


def backward(make: Callable[[], torch.nn.Module], rows: int = 30_000) -> Moments:
    """Moments of theta's gradient, through `forward` and `backward` of warm estimators."""
    torch.manual_seed(1)
    ils, moments = make(), Moments()
    for _ in range(3):
        theta = THETA.expand(rows, -1).clone().requires_grad_()
        ils(theta, lambda x: quadratic(x).sum(dim=-1)).sum().backward()
        moments.add(theta.grad)
    return moments


@named
def test_delivered_gradient_is_unbiased_for_quadratic_losses(family):
    assert worst(backward(lambda: ILSNatural(family, base=1.0)), gradient(family, quadratic)) < 1


def test_wrong_metric_is_rejected():
    assert worst(backward(lambda: ILSNatural(WrongSlope(), base=1.0)), gradient(Poisson(), quadratic)) > 1


def variance(make: Callable[[], torch.nn.Module], f: Function, rows: int = 2000) -> float:
    torch.manual_seed(0)
    module = make()
    for _ in range(12):
        theta = THETA.expand(rows, -1).clone().requires_grad_()
        module(theta, lambda x: f(x).sum(dim=-1)).sum().backward()
    return theta.grad.var(dim=0).sum().item()


def test_curvature_removes_variance():
    for family, most in ((Gaussian(scale=1.7), 0.01), (Poisson(), 0.2), (Binomial(6), 0.2)):
        learnt, frozen = ILSNatural(family), ILSNatural(family).eval()
        frozen.build(3, 1)
        assert variance(lambda x=learnt: x, quadratic) < most * variance(lambda x=frozen: x, quadratic)


def probabilities(variable: Variable, theta: Tensor) -> Tensor:
    return variable.logits(theta).softmax(dim=-1)


def test_laws_as_categoricals():
    reference = torch.distributions.Binomial(6, logits=THETA[:, None])
    expected = reference.log_prob(torch.arange(7).double()).exp()
    torch.testing.assert_close(probabilities(Binomial(6), THETA), expected)
    for levels in (2, 5):
        variable = Ordinal(levels, spacing=1.5)
        above = probabilities(variable, THETA).flip(-1).cumsum(dim=-1).flip(-1)[:, 1:]
        torch.testing.assert_close(above, torch.sigmoid(THETA[:, None] - variable.cuts.double()))
    assert torch.isfinite(Ordinal(5).logits(torch.tensor([[1e4, -1e4]]))).all()


@pytest.mark.parametrize("variable", [Bernoulli(), Binomial(6), Ordinal(4)], ids=lambda v: type(v).__name__)
def test_any_estimator_trains_the_parameter(variable):
    def f(x: Tensor) -> Tensor:
        return quadratic(x).sum(dim=-1)

    theta = THETA.clone().requires_grad_()
    values = variable.support.double()
    expected = torch.autograd.grad((probabilities(variable, theta) * quadratic(values)).sum(), theta)[0]
    for estimator, right in ((ReinMax(), True), (ILSNewton(base=1.0), True), (StraightThrough(), False)):
        torch.manual_seed(0)
        rows = THETA.expand(30_000, -1).clone().requires_grad_()
        variable(estimator, rows, f).sum().backward()
        moments = Moments()
        moments.add(rows.grad)
        assert (worst(moments, expected) < 1) == right
    leaf = THETA.clone().requires_grad_()
    variable(Exact(), leaf, f).backward()
    torch.testing.assert_close(leaf.grad, expected)


def test_two_values_serve_the_estimators_of_two_categories():
    torch.manual_seed(0)
    rows = THETA.expand(30_000, -1).clone().requires_grad_()
    Bernoulli()(DisArm(), rows, lambda x: wave(x).sum(dim=-1)).sum().backward()
    moments = Moments()
    moments.add(rows.grad)
    assert worst(moments, gradient(Bernoulli(), wave)) < 1


def test_curvature_is_learnt_in_training_only_and_saved():
    ils, theta = ILSNatural(Poisson()), THETA.float().expand(64, -1).clone().requires_grad_()
    ils(theta, lambda x: quadratic(x).sum(dim=-1)).sum().backward()
    before = {name: value.clone() for name, value in ils.state_dict().items()}
    ils.eval()(theta, lambda x: quadratic(x).sum(dim=-1)).sum().backward()
    torch.testing.assert_close(dict(ils.state_dict()), before)
    resumed = ILSNatural(Poisson())
    resumed.load_state_dict(before)
    assert (resumed.S > 0).all()
    with torch.no_grad():
        assert not ils(theta, lambda x: x.sum(dim=-1)).requires_grad


def test_described_and_made_again():
    for family in (Gaussian(scale=2.0), Poisson()):
        assert describe(create(describe(family), NaturalFamily)) == describe(family)
    for variable in (Binomial(3), Bernoulli(), Ordinal(4, 1.0)):
        assert describe(create(describe(variable), Variable)) == describe(variable)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Binomial(0), "Binomial: trials must be at least 1; given 0"),
        (lambda: Ordinal(1), "Ordinal: levels must be at least 2; given 1"),
        (lambda: Ordinal(3, spacing=0.0), "Ordinal: spacing must be greater than 0 and finite; given 0"),
        (lambda: Gaussian(0.0), "Gaussian: scale must be greater than 0 and finite; given 0"),
        (lambda: ILSNatural(Poisson(), base=-1.0), "ILSNatural: base must be at least 0 and finite; given -1"),
        (lambda: ILSNatural(Poisson(), decay=1.0), r"ILSNatural: decay must be in \[0, 1\); given 1"),
        (lambda: ILSNatural(Poisson())(torch.zeros(4, 2), lambda x: x), "the loss f must map"),
        (lambda: ILSNatural(Poisson())(torch.zeros(4, 2), lambda x: x.detach().sum(-1)), "differentiable in x"),
        (lambda: Binomial(3)(ReinMax(), torch.zeros(4, 2), lambda x: x), "the loss f must map"),
    ],
)
def test_bad_input_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()
