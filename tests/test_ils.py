"""Intermediate Loss Sampling against pencil and paper.

One row, pi = (.5, .3, .2), f(z) = g.z with g = (1, 2, -1), alpha = .1: the loss tells which category was drawn.
"""

import pytest
import torch
from torch import Tensor

from ils_lightning.estimators import (
    ILS,
    Average,
    Estimator,
    GumbelSoftmax,
    Hellinger,
    KullbackLeibler,
    ReinMax,
    StraightThrough,
    StraightThroughGumbelSoftmax,
)
from ils_lightning.estimators.categorical import jacobian

PI = torch.tensor([0.5, 0.3, 0.2])
G = torch.tensor([1.0, 2.0, -1.0])


def gradient_given_draw(estimator: Estimator, drawn: int, scale: float = 1.0) -> Tensor:
    """The logits' gradient of every row of 200 that drew the category; they must agree."""
    logits = PI.log().expand(200, 1, 3).clone().requires_grad_()
    loss = estimator(logits, lambda z: scale * (G * z).sum(dim=(-2, -1)))
    loss.sum().backward()
    assert logits.grad is not None
    rows = logits.grad[loss.detach() == scale * G[drawn], 0]
    assert len(rows) > 10
    torch.testing.assert_close(rows, rows[:1].expand_as(rows))
    return rows[0]


# Delta = g - g[z], v = z - .1 Delta, pi_D = v / sum v
#   z = e1: Delta (0, 1, -2)   v (1, -.1, .2)   sum 1.1   pi_D ( 10, -1, 2) / 11
#   z = e2: Delta (-1, 0, -3)  v (.1, 1, .3)    sum 1.4   pi_D ( 1, 10, 3) / 14
#   z = e3: Delta (2, 3, 0)    v (-.2, -.3, 1)  sum .5    pi_D (-.4, -.6, 2)
# pulled back through softmax: pi - pi_D
SOFTMAX = {
    0: (-0.409091, 0.390909, 0.018182),  # .5 - .909091, .3 + .090909, .2 - .181818
    1: (0.428571, -0.414286, -0.014286),  # .5 - .071429, .3 - .714286, .2 - .214286
    2: (0.9, 0.9, -1.8),  # .5 + .4, .3 + .6, .2 - 2
}
# handed to the logits: v = -pi_D / pi, made mean-free
#   z = e1: (-1.818182, .303030, -.909091)   mean -.808081
#   z = e2: (-.142857, -2.380952, -1.071429)  mean -1.198413
#   z = e3: (.8, 2, -10)                      mean -2.4
NONE = {
    0: (-1.010101, 1.111111, -0.101010),
    1: (1.055556, -1.182540, 0.126984),
    2: (3.2, 4.4, -7.6),
}


@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_single_step_as_the_algorithm_is_written(drawn: int):
    got = gradient_given_draw(ILS(step_size=0.1), drawn)
    torch.testing.assert_close(got, torch.tensor(SOFTMAX[drawn]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_single_step_of_the_published_program(drawn: int):
    got = gradient_given_draw(ILS(step_size=0.1, pullback="none"), drawn)
    torch.testing.assert_close(got, torch.tensor(NONE[drawn]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("estimator", "drawn", "expected"),
    [
        # clip: v (1, -.1, .2) -> (1, 0, .2) / 1.2 = (.833333, 0, .166667)
        (ILS(normalizer="clip"), 0, (-0.333333, 0.3, 0.033333)),
        # simplex: v (.1, 1, .3): two stay, less (1.3 - 1) / 2 = .15 -> (0, .85, .15)
        (ILS(normalizer="simplex"), 1, (0.5, -0.55, 0.05)),
        # Hellinger: a = sqrt(pi pi_D) = (.188982, .462910, .207020), sum .858912; pi sum - a
        (ILS(intermediate_loss=Hellinger()), 1, (0.240474, -0.205236, -0.035238)),
    ],
)
def test_single_step_of_the_other_choices(estimator: ILS, drawn: int, expected: tuple):
    torch.testing.assert_close(gradient_given_draw(estimator, drawn), torch.tensor(expected), atol=1e-5, rtol=0)


def test_natural_gradient_is_the_same_loss_through_the_fisher_matrix():
    pi, target = torch.rand(50, 7, dtype=torch.float64).softmax(-1), torch.rand(50, 7, dtype=torch.float64).softmax(-1)
    torch.testing.assert_close(jacobian(pi, -target / pi), pi - target, rtol=0, atol=1e-15)


@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_a_step_out_of_the_half_space_is_projected_and_counted(drawn: int):
    # ten times the loss: v sums to 1 - .1 sum Delta = 2, 5 and -4; only z = e3 falls back, v = (-2, -3, 1) to e3
    estimator = ILS(step_size=0.1)
    got = gradient_given_draw(estimator, drawn, scale=10.0)
    expected = {0: (0.0, 0.8, -0.8), 1: (0.3, 0.1, -0.4), 2: (0.5, 0.3, -0.8)}[drawn]
    torch.testing.assert_close(got, torch.tensor(expected), atol=1e-5, rtol=0)


def test_share_of_projected_rows():
    estimator = ILS(step_size=0.1)
    logits = PI.log().expand(400, 1, 3).clone().requires_grad_()
    loss = estimator(logits, lambda z: 10 * (G * z).sum(dim=(-2, -1)))
    loss.sum().backward()
    share = estimator.diagnostics()["fallback_share"].item()
    assert share == pytest.approx((loss == -10).float().mean().item())
    assert 0.1 < share < 0.3
    assert estimator.diagnostics()["fallback_share"] == 0


@pytest.mark.parametrize("epsilon", [0.0, 1e-7])
def test_derivatives_are_those_of_the_definitions(epsilon: float):
    pi = torch.rand(20, 5, dtype=torch.float64).softmax(-1).requires_grad_()
    target = torch.rand(20, 5, dtype=torch.float64).softmax(-1)
    hellinger = (2 - 2 * (pi * target).sqrt().sum(-1)).sum()
    kl = (target * (target.log() - (pi + epsilon).log())).sum()
    for loss, value in ((Hellinger(), hellinger), (KullbackLeibler(epsilon), kl)):
        (expected,) = torch.autograd.grad(value, pi)
        torch.testing.assert_close(loss.derivative(pi.detach(), target), expected, rtol=1e-12, atol=0)
        pulled = jacobian(pi.detach(), expected)
        torch.testing.assert_close(loss.logit_gradient(pi.detach(), target), pulled, rtol=0, atol=2e-7)


VALUES = [0.1, 1.0, 1.3]


@pytest.mark.parametrize(
    "make",
    [
        lambda v: ILS(step_size=v),
        lambda v: StraightThrough(temperature=v),
        lambda v: ReinMax(temperature=v),
        lambda v: GumbelSoftmax(temperature=v),
        lambda v: StraightThroughGumbelSoftmax(temperature=v),
        lambda v: Average(ReinMax(temperature=v), samples=3),
    ],
    ids=["ILS", "StraightThrough", "ReinMax", "GumbelSoftmax", "StraightThroughGumbelSoftmax", "Average"],
)
@pytest.mark.parametrize("form", [list, torch.tensor])
def test_one_value_per_row_is_one_run_per_value(make, form):
    logits = torch.randn(3, 4, 2, 5)

    def gradient(estimator: Estimator) -> Tensor:
        torch.manual_seed(5)
        leaf = logits.clone().requires_grad_()
        estimator(leaf, lambda z: (z @ torch.arange(5.0)).square().sum(dim=-1)).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    together = gradient(make(form(VALUES)))
    for row, value in enumerate(VALUES):
        torch.testing.assert_close(together[row], gradient(make(value))[row])
