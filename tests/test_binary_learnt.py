"""Rules every binary estimator keeps, and what its learnt control variates learn."""

import pytest
import torch
from torch import nn

from ils_lightning.estimators import Arm, Arms, BitFlip, DisArm, DoubleControlVariate, Exact, LeaveOneOut, Rodeo
from ils_lightning.modules import CategoricalFit

torch.set_num_threads(1)
LATENTS = 4
MAKERS = [Arm, DisArm, Arms, BitFlip, DoubleControlVariate, Rodeo]
NEEDS_TWO = [Arms, DoubleControlVariate, Rodeo]


def row(seed=0):
    return torch.randn(LATENTS, 2, generator=torch.Generator().manual_seed(seed))


class Quadratic(nn.Module):
    """f(z) = theta (sum b - 1.3)^2, with a parameter inside."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(2.0))

    def forward(self, z):
        return self.theta * (z[..., 0].sum(-1) - 1.3).square()


def total_variance(estimator, logits, f, count=20_000):
    torch.manual_seed(11)
    _, estimate = estimator.estimate(logits.expand(count, *logits.shape), f)
    return estimate.detach().var(0).sum().item()


def train_own(estimator, logits, f, steps, rate):
    """Trains the estimator alone, through forward and backward of a loss."""
    optimizer = torch.optim.Adam(estimator.parameters(), lr=rate)
    rows = logits.expand(100, *logits.shape).clone().requires_grad_()
    torch.manual_seed(12)
    for _ in range(steps):
        optimizer.zero_grad()
        estimator(rows, f).mean().backward()
        optimizer.step()


@pytest.mark.parametrize("maker", MAKERS)
def test_three_categories_raise_and_say_who_serves_them(maker):
    rule = rf"{maker.__name__} is defined for 2 categories only; given 3\. .*serves? any number"
    with pytest.raises(ValueError, match=rule):
        maker()(torch.zeros(2, 1, 3), lambda z: z[..., 0].sum(-1))


def test_a_model_with_more_categories_refuses_before_it_trains():
    with pytest.raises(ValueError, match="Arm is defined for 2 categories only; given 5"):
        CategoricalFit(estimator=Arm(), trials=3).setup("fit")


@pytest.mark.parametrize("maker", NEEDS_TWO)
def test_one_sample_is_refused(maker):
    with pytest.raises(ValueError, match=r"samples must be at least 2.*given 1"):
        maker(samples=1)


@pytest.mark.parametrize("maker", [DoubleControlVariate, Rodeo])
def test_a_loss_without_gradient_is_refused(maker):
    with pytest.raises(ValueError, match=f"{maker.__name__} needs a loss f that is differentiable"):
        maker()(torch.zeros(2, 1, 2, requires_grad=True), lambda z: z[..., 0].sum(-1).detach())


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("infinite", [float("inf"), 1e4])
def test_deterministic_rows_are_finite_and_never_show_a_masked_category(maker, infinite):
    logits = torch.zeros(2000, 3, 2)
    logits[:, 0, 1] = -infinite
    logits[:, 1, 0] = -infinite
    logits.requires_grad_()
    torch.manual_seed(0)

    def f(z):
        seen.append(z.detach())
        return z[..., 0].sum(-1).square()

    seen = []
    maker()(logits, f).sum().backward()
    draws = torch.cat([z.reshape(-1, 3, 2) for z in seen])
    assert (draws[:, 0, 0] == 1).all()
    assert (draws[:, 1, 1] == 1).all()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, :2] == 0).all()
    assert (logits.grad[:, 2] != 0).any()


@pytest.mark.parametrize("maker", MAKERS)
def test_parameters_inside_f_get_the_gradient_of_exact_draws(maker):
    """F = theta h: with loss = theta h, d loss / d theta is loss / theta, row by row, whatever the estimator learns."""
    f = Quadratic()
    rows = row().expand(5000, LATENTS, 2).clone().requires_grad_()
    torch.manual_seed(1)
    loss = maker()(rows, f)
    loss.mean().backward()
    torch.testing.assert_close(f.theta.grad, loss.mean().detach() / f.theta.detach())
    exact = Exact()(row(), f).detach()
    assert (loss.mean() - exact).abs() / (loss.std() / 5000**0.5) < 4.5


@pytest.mark.parametrize("maker", [DoubleControlVariate, Rodeo])
def test_own_parameters_get_the_gradient_of_the_square_alone(maker):
    estimator, f = maker(), Quadratic()
    rows = row().expand(50, LATENTS, 2).clone().requires_grad_()
    torch.manual_seed(2)
    estimator(rows, f).mean().backward()
    torch.manual_seed(2)
    _, estimate = estimator.estimate(rows, f)
    own = list(estimator.parameters())
    expected = torch.autograd.grad(estimate.square().sum((-2, -1)).mean(), own)
    for parameter, gradient in zip(own, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_double_control_variate_starts_as_leave_one_out_and_learns_the_best_coefficient():
    """The variance is a parabola in a: three points of it give its minimum."""
    logits, f = row(), Quadratic()
    estimator = DoubleControlVariate(samples=3)
    before = total_variance(estimator, logits, f)
    assert before == pytest.approx(total_variance(LeaveOneOut(3), logits, f), rel=0.05)
    train_own(estimator, logits, f, steps=100, rate=0.03)
    after = total_variance(estimator, logits, f)
    high, low = (total_variance(DoubleControlVariate(3, a), logits, f) for a in (1.0, -1.0))
    slope, curvature = (high - low) / 2, (high + low) / 2 - before
    best = before - slope**2 / (4 * curvature)
    assert best < 0.85 * before
    assert after < best + 0.02 * before


def test_coefficient_minus_one_leaves_no_variance_on_linear_losses():
    estimate = DoubleControlVariate(samples=2, coefficient=-1.0)
    assert total_variance(estimate, row(), lambda z: z[..., 0] @ torch.tensor([1.0, -2.0, 0.5, 3.0])) < 1e-9


@pytest.mark.slow
def test_rodeo_learns_to_lower_its_variance():
    logits, f = row(), Quadratic()
    torch.manual_seed(3)
    estimator = Rodeo(samples=3)
    before = total_variance(estimator, logits, f)
    assert before == pytest.approx(total_variance(LeaveOneOut(3), logits, f), rel=0.05)
    train_own(estimator, logits, f, steps=200, rate=0.01)
    assert total_variance(estimator, logits, f) < 0.7 * before
