"""A copy of the estimator for each group: what one group learns says nothing of another."""

import pytest
import torch
from torch import Tensor

from ils_lightning.distributions import OneHotCategorical
from ils_lightning.estimators import (
    ILSCV,
    Grouped,
    ILSDiagonal,
    ILSIsotropic,
    ILSJoint,
    ILSLowRank,
    ILSNewton,
    ILSTempered,
    LeaveOneOut,
    ReinMax,
    TopKSubset,
)
from ils_lightning.functional import sample

A = torch.tensor([[2.0, -1.0, 0.5], [-1.0, 1.0, 0.0], [0.5, 0.0, -2.0]])
THETA = torch.tensor([0.5, 0.0, -0.5])
SIGN = torch.tensor([1.0, -1.0])[:, None]


def unlike(z: Tensor) -> Tensor:
    """A quadratic loss whose curvature has the other sign in the second of two groups `[samples, 2, rows, 1, 3]`."""
    return SIGN * torch.einsum("...li,ij,...lj->...", z, A, z) / 2


def bias_and_variance(estimator: torch.nn.Module, steps: int = 300) -> tuple[float, float]:
    """Of the first group's gradient, relative to the true one."""
    torch.manual_seed(0)
    pi, v, seen = THETA.softmax(0), A.diagonal() / 2, []
    true = pi * (v - pi @ v)
    for step in range(steps):
        logits = THETA.expand(2, 200, 1, 3).clone().requires_grad_()
        estimator(logits, unlike).sum().backward()
        seen += [logits.grad[0, :, 0]] if step > 50 else []
    g = torch.cat(seen)
    return ((g.mean(0) - true).norm() / true.norm()).item(), (g.var(0).sum() / true.square().sum()).item()


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: ILSNewton(base=0.0), ILSDiagonal, lambda: ILSJoint(base=0.0), ILSTempered])
def test_groups_of_opposite_curvature_keep_their_own(make):
    assert bias_and_variance(Grouped(make(), 2))[1] < 0.5 * bias_and_variance(make())[1]


@pytest.mark.slow
def test_with_one_estimator_for_both_groups_the_gradient_is_biased():
    assert bias_and_variance(Grouped(ILSNewton(base=0.0), 2))[0] < 0.02
    assert bias_and_variance(ILSNewton(base=0.0))[0] > 0.1


@pytest.mark.parametrize("make", [ILSNewton, ILSDiagonal, ILSJoint, ILSTempered, ILSCV, ILSIsotropic, ILSLowRank])
@pytest.mark.parametrize("closed", [False, True])
def test_rows_that_do_not_count_teach_a_group_nothing(make, closed):
    """Whatever padding holds, state and estimates are the same; with one estimator for all rows they are too."""

    class Loss:
        def __call__(self, z: Tensor) -> Tensor:
            return unlike(z)

    class OwnSlope(Loss):
        def closed_form_gradient(self, z: Tensor) -> Tensor:
            return SIGN[..., None, None] * torch.einsum("...li,ij->...lj", z, A)

    there = torch.arange(40) < torch.tensor([[10], [30]])
    found = []
    for padding in (0.0, 7.0):
        torch.manual_seed(0)
        estimator = Grouped(make(), 2)
        for _ in range(5):
            logits = torch.randn(2, 40, 1, 3)
            logits = logits.masked_fill(~there[..., None, None], padding).requires_grad_()
            torch.where(there, estimator(logits, OwnSlope() if closed else Loss()), 0).sum().backward()
        found.append([logits.grad, *estimator.state_dict().values()])
    assert found[0][0].abs().sum() > 0
    torch.testing.assert_close(found[0], found[1])


def test_without_state_it_is_the_estimator():
    logits, g = torch.randn(4, 5, 2, 3), torch.randn(4, 5, 2, 3)
    pi, z = logits.softmax(-1), torch.nn.functional.one_hot(torch.randint(3, (4, 5, 2)), 3).float()
    expected = ReinMax(1.3).pullback(logits, pi, z, g)
    torch.testing.assert_close(Grouped(ReinMax(1.3), 4).pullback(logits, pi, z, g), expected)


def test_each_step_of_a_recurrent_model_has_its_copy():
    estimator = Grouped(ILSNewton(), 3)
    for t in range(3):
        estimator[t].sample(torch.randn(40, 1, 3, requires_grad=True)).square().sum().backward()
    assert len({id(one) for one in estimator.estimators}) == len(estimator) == 3
    assert all(one.S is not None for one in estimator.estimators)


def test_refusals():
    with pytest.raises(ValueError, match="closed form"):
        Grouped(LeaveOneOut(), 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="at least 1"):
        Grouped(ReinMax(), 0)
    with pytest.raises(ValueError, match=r"groups must be a whole number; given 2\.0"):
        Grouped(ReinMax(), 2.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"with 2 groups \(.*takes one of them: grouped\[t\]\); given \[3, 5, 1, 3\]"):
        Grouped(ReinMax(), 2)(torch.zeros(3, 5, 1, 3), lambda z: z.sum((-2, -1)))


def test_a_recurrent_model_draws_by_the_copy_of_each_step():
    grouped = Grouped(ILSNewton(), groups=2)
    logits = torch.randn(6, 4, 4, requires_grad=True)
    with pytest.raises(ValueError, match=r"grouped\[t\]"):
        sample(logits, grouped)
    z = OneHotCategorical(logits=logits, estimator=grouped[1], unimix=0.01).rsample()
    (z * torch.randn(4, 4)).square().sum().backward()
    sample(logits, grouped[0])
    assert torch.isfinite(logits.grad).all()
    assert grouped[0].S is None
    assert grouped[1].S.any()


def test_draws_follow_the_distribution_of_the_copies():
    estimator, logits = Grouped(TopKSubset(2), groups=3), torch.randn(3, 5, 1, 4)
    assert estimator.ones == 2
    assert (estimator.distribution(logits).draw().sum(dim=-1) == 2).all()
    assert (estimator.value(logits, lambda z: z.sum(dim=(-2, -1))) == 2).all()
