"""The estimators with an objective of their own: sums over sparse supports, and exact k-subsets."""

import itertools

import pytest
import torch
from examples import subset_expectation
from pathwise import frequency_score, table
from problems import mlp
from torch import Tensor

from ils_lightning.estimators import EntmaxMarginal, SparsemaxMarginal, StraightThrough, TopKSubset
from ils_lightning.estimators.categorical import gumbel
from ils_lightning.estimators.top_k_subset import covariance, inclusion

SPARSE = [SparsemaxMarginal, EntmaxMarginal, lambda: EntmaxMarginal(alpha=1.2), lambda: EntmaxMarginal(alpha=2.5)]
ROWS = 100_000


def rows_of_logits(rows: int = 5, latents: int = 2, categories: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return 0.4 * torch.randn(rows, latents, categories, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("make", SPARSE)
def test_loss_is_the_sum_over_all_states_and_the_gradient_its_finite_difference(make):
    estimator, problem = make(), mlp(2, 4)
    logits, size = rows_of_logits(), 1e-6
    loss, gradient = estimator.estimate(logits, problem.loss())
    xi = estimator.probabilities(logits)
    z = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    f = problem.base(torch.nn.functional.one_hot(z, 4).double())
    weights = xi[:, 0, z[:, 0]] * xi[:, 1, z[:, 1]]
    torch.testing.assert_close(loss, weights @ f)
    for step in torch.eye(8, dtype=torch.float64).reshape(8, 2, 4):
        above, below = (estimator.estimate(logits + sign * size * step, problem.loss())[0] for sign in (1, -1))
        torch.testing.assert_close((gradient * step).sum(dim=(-2, -1)), (above - below) / (2 * size), rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", SPARSE)
def test_sparse_objective_is_not_that_of_softmax(make):
    estimator, problem = make(), mlp(2, 4)
    leaf = rows_of_logits().requires_grad_()
    _, gradient = estimator.estimate(leaf, problem.loss())
    p = leaf.softmax(dim=-1)
    z = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    soft = (p[:, 0, z[:, 0]] * p[:, 1, z[:, 1]]) @ problem.base(torch.nn.functional.one_hot(z, 4).double())
    assert not torch.allclose(gradient, torch.autograd.grad(soft.sum(), leaf)[0], rtol=0.05)


def test_only_the_supports_are_evaluated():
    seen = []
    logits = torch.tensor([[[9.0, 8.8, 0.0], [0.0, 9.0, 0.0]], [[9.0, 0.0, 0.0], [5.0, 5.0, 5.0]]])

    def f(z: Tensor) -> Tensor:
        seen.append(len(z))
        return z[..., 0].sum(dim=-1)

    loss = SparsemaxMarginal()(logits, f)
    assert seen == [2 * 3]
    torch.testing.assert_close(loss.detach(), torch.tensor([0.6, 1 + 1 / 3]))


def test_too_many_states_are_named():
    with pytest.raises(ValueError, match=r"\[3, 3, 3\] make 27 states, more than limit = 26"):
        SparsemaxMarginal(limit=26).estimate(torch.zeros(1, 3, 3), lambda z: z[..., 0].sum(dim=-1))


@pytest.mark.parametrize("make", SPARSE)
def test_masked_and_extreme_logits(make):
    logits = torch.tensor([[0.3, -torch.inf, 0.1, 0.2], [1e4, -1e4, 0.0, 1e4]])[:, None].requires_grad_()
    loss = make()(logits, lambda z: (z * torch.tensor([1.0, 5.0, 3.0, 2.0])).sum(dim=(-2, -1)))
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[0, 0, 1].item(), loss[1].item()) == (0, pytest.approx(1.5))


def test_entmax_of_two_is_sparsemax():
    logits, problem = rows_of_logits(), mlp(2, 4)
    ours, library = (e.estimate(logits, problem.loss()) for e in (SparsemaxMarginal(), EntmaxMarginal(alpha=2.0)))
    torch.testing.assert_close(ours, library)


@pytest.mark.parametrize(("make", "message"), [(lambda: EntmaxMarginal(1.0), "alpha"), (lambda: TopKSubset(0), "size")])
def test_options_out_of_range(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def subsets(categories: int, size: int) -> Tensor:
    chosen = torch.tensor(list(itertools.combinations(range(categories), size)))
    return torch.nn.functional.one_hot(chosen, categories).sum(dim=1).double()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_subset_marginals_and_their_jacobian_match_enumeration(size: int):
    theta, g = table(5)
    leaf, states = theta.clone().requires_grad_(), subsets(5, size)
    mu = (states @ leaf).softmax(dim=0) @ states
    expected = torch.autograd.grad(mu @ g[0], leaf)[0]
    marginals, jacobian = covariance(inclusion(theta, size), g[0])
    torch.testing.assert_close(marginals, mu.detach())
    torch.testing.assert_close(jacobian, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_subset_draws_follow_the_exact_law(size: int):
    theta, _ = table(5)
    states = subsets(5, size)
    p = (states @ theta).softmax(dim=0)
    logits = theta.expand(ROWS, 1, 5)
    exact = TopKSubset(size).sample(logits).squeeze(1)
    assert frequency_score((exact @ states.T == size).double(), p) < 1


def test_top_k_of_gumbels_would_be_rejected():
    theta, _ = table(5)
    states = subsets(5, 2)
    index = (theta + gumbel(theta.expand(ROWS, 5))).topk(2, dim=-1).indices
    perturbed = torch.zeros(ROWS, 5, dtype=torch.float64).scatter(-1, index, 1.0)
    assert frequency_score((perturbed @ states.T == 2).double(), (states @ theta).softmax(dim=0)) > 1


def test_one_element_subsets_are_straight_through():
    theta, g = table(5)
    logits = theta.expand(7, 1, 5)
    a = g[0].expand(7, 1, 5)
    expected = StraightThrough().pullback(logits, logits.softmax(dim=-1), a, a)
    torch.testing.assert_close(TopKSubset(1).pullback(logits, logits.softmax(dim=-1), a, a), expected)


def test_subset_value_is_that_of_an_exact_subset():
    problem = mlp(1, 4)
    logits = problem.logits.expand(ROWS, 1, 4)
    value = TopKSubset(2).value(logits, problem.loss())
    expected = subset_expectation(problem.logits, problem.base)
    assert (value.mean() - expected).abs() < 4.5 * value.std() / ROWS**0.5


def test_masked_and_extreme_logits_in_subsets():
    logits = torch.tensor([[0.3, -torch.inf, 0.1, 0.2], [1e4, -1e4, -1e4, -1e4]])[:, None]
    leaf = logits.expand(1000, 2, 1, 4).clone().requires_grad_()
    z = TopKSubset(2).sample(leaf)
    (z * torch.arange(4.0)).sum().backward()
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()
    assert not z[:, 0, 0, 1].any()
    assert not leaf.grad[:, 0, 0, 1].any()
    assert z[:, 1, 0, 0].all()
    torch.testing.assert_close(leaf.grad[0, 1, 0], torch.tensor([0.0, -1 / 3, 0.0, 1 / 3]))


@pytest.mark.parametrize(("size", "logits"), [(4, torch.zeros(1, 3)), (3, torch.tensor([[0.0, -torch.inf, 0.0]]))])
def test_too_few_categories_are_named(size: int, logits: Tensor):
    with pytest.raises(ValueError, match=f"at least size = {size}"):
        TopKSubset(size)(logits, lambda z: z.sum(dim=(-2, -1)))
