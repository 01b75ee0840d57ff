"""MinimumVariance against its defining least-squares problem, and its exactness by enumeration."""

from math import inf

import pytest
import torch
from pathwise import mean_over_draws, per_draw, quadratic_table, table
from torch import Tensor

from ils_lightning.estimators import MinimumVariance, ReinMax, StraightThrough
from ils_lightning.estimators.categorical import jacobian


def weights(estimator: MinimumVariance, theta: Tensor) -> Tensor:
    """S(x) `[x, row, column]`, read off by asking for S(x)^T e_i."""
    categories = len(theta)
    basis = torch.eye(categories, dtype=theta.dtype)
    rows = [per_draw(estimator, theta, e.expand(categories, -1)).squeeze(1) for e in basis]
    return torch.stack(rows, dim=1)


def least_squares(pi: Tensor, tau: float) -> Tensor:
    """The same by one dense solve of the constrained least squares' optimality conditions."""
    K = len(pi)
    J = (pi.diag() - torch.outer(pi, pi)).double()
    index = torch.arange(K**3).reshape(K, K, K)  # S[x, i, c]
    H = torch.diag(pi.repeat_interleave(K * K))
    right = torch.zeros(K**3, dtype=pi.dtype)
    for i in range(K):
        for x in range(K):
            for c in range(K):
                bracket = torch.zeros(K**3, dtype=pi.dtype)
                bracket[index[x, i, c]] += pi[x]
                bracket[index[i, x, c]] += pi[i]
                H += tau / 2 * torch.outer(bracket, bracket)
                right += tau / 2 * (i == x) * J[i, c] * bracket
    C = torch.zeros(K * K, K**3, dtype=pi.dtype)
    for x in range(K):
        C[torch.arange(K * K), index[x].flatten()] = pi[x]
    zero = torch.zeros(K * K, K * K, dtype=pi.dtype)
    kkt = torch.cat([torch.cat([H, C.T], dim=1), torch.cat([C, zero], dim=1)])
    return torch.linalg.solve(kkt, torch.cat([right, J.flatten()]))[: K**3].reshape(K, K, K)


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0, 50.0])
@pytest.mark.parametrize("categories", [2, 3, 4])
def test_weights_solve_the_constrained_least_squares(categories: int, tau: float):
    theta, _ = table(categories, seed=categories)
    expected = least_squares(theta.softmax(dim=-1), tau)
    torch.testing.assert_close(weights(MinimumVariance(tau), theta), expected, rtol=1e-9, atol=1e-10)
    assert tau == 0 or not torch.allclose(weights(MinimumVariance(tau), theta), least_squares(theta.softmax(-1), 0))


def test_penalty_zero_is_straight_through():
    theta, g = table(5)
    torch.testing.assert_close(per_draw(MinimumVariance(0), theta, g), per_draw(StraightThrough(), theta, g))


def test_two_categories_without_limit_on_the_penalty_are_reinmax():
    theta, g = table(2)
    torch.testing.assert_close(per_draw(MinimumVariance(), theta, g), per_draw(ReinMax(), theta, g))
    other, g = table(3)
    assert not torch.allclose(per_draw(MinimumVariance(), other, g), per_draw(ReinMax(), other, g), rtol=0.01)


@pytest.mark.parametrize("categories", [2, 3, 6])
def test_exact_on_quadratics_at_infinity_alone(categories: int):
    theta, g, gradient = quadratic_table(categories, seed=3)
    exact, limited = (mean_over_draws(theta, per_draw(MinimumVariance(tau), theta, g)) for tau in (inf, 1.0))
    torch.testing.assert_close(exact, gradient, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(limited, gradient, rtol=1e-3)


@pytest.mark.parametrize("tau", [0.0, 1.0, inf])
def test_exact_on_linear_losses_and_blind_to_shifts(tau: float):
    theta, g = table(5)
    mean = mean_over_draws(theta, per_draw(MinimumVariance(tau), theta, g[0].expand(5, 5)))
    torch.testing.assert_close(mean, jacobian(theta.softmax(dim=-1), g[0]))
    shift = torch.arange(5.0, dtype=theta.dtype)[:, None]
    plain, shifted = (per_draw(MinimumVariance(tau), theta, x) for x in (g, g + shift))
    torch.testing.assert_close(plain, shifted)


def test_large_penalties_approach_infinity():
    theta, g = table(5)
    limit = per_draw(MinimumVariance(), theta, g)
    far, near = ((per_draw(MinimumVariance(tau), theta, g) - limit).norm() for tau in (1e4, 1e8))
    assert near / far == pytest.approx(1e-4, rel=0.05)
    torch.testing.assert_close(per_draw(MinimumVariance(1e30), theta, g), limit)


@pytest.mark.parametrize("tau", [1.0, inf])
def test_rare_and_masked_categories_do_not_disturb_the_others(tau: float):
    theta, g = table(4)
    rare = torch.cat([theta, torch.tensor([-300.0, -300.0, -inf, -inf], dtype=theta.dtype)])
    wide = torch.cat([g, torch.ones(4, 4, dtype=g.dtype)], dim=-1)
    z = torch.eye(8, dtype=theta.dtype)[:4, None]
    logits = rare.expand(4, 1, 8)
    actual = MinimumVariance(tau).pullback(logits, logits.softmax(dim=-1), z, wide[:, None])
    torch.testing.assert_close(actual[..., :4], per_draw(MinimumVariance(tau), theta, g))
    assert actual[..., 4:].abs().max() < 1e-12


def test_one_penalty_per_leading_row():
    theta, g = table(4)
    listed = MinimumVariance([0.0, 1.0, 5.0, 1e6])
    for k, tau in enumerate((0.0, 1.0, 5.0, 1e6)):
        expected = per_draw(MinimumVariance(tau), theta, g)[k]
        torch.testing.assert_close(per_draw(listed, theta, g)[k], expected)


def test_penalty_must_not_be_negative():
    with pytest.raises(ValueError, match="penalty must be at least 0 and finite; given -1"):
        MinimumVariance(-1)
