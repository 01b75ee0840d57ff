"""The statements of the ILS family, each checked by summing over every draw, in float64.

A balanced batch holds each joint draw exactly as often as its probability says, so that the mean of a row-wise
estimate over it is the expectation, and a pooled statistic over it is the population's. `table` is an arbitrary
gradient for each draw of each latent: every f of one latent is such a table.
"""

import itertools

import pytest
import torch
from random_problems import newton_step
from torch import Tensor

from ils_lightning.estimators import ILS, ILSCV, ILSDiagonal, ILSIsotropic, ILSNewton, ReinMax, StraightThrough
from ils_lightning.estimators.family import J, M_s, delta
from ils_lightning.estimators.ils_cv import leave_one_out_coefficient

INSTANCES = 200
SIZES = range(2, 9)
POOLED = [ILSNewton, ILSDiagonal, ILSIsotropic]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def balanced(categories: int, instances: int = INSTANCES, rows: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, pi and draws `[rows, instances, categories]`, each latent an instance with its own probabilities."""
    generator = torch.Generator().manual_seed(categories)
    cuts = torch.stack([torch.randperm(rows - 1, generator=generator)[: categories - 1] for _ in range(instances)]) + 1
    start = torch.cat([torch.zeros(instances, 1), cuts.sort(dim=-1).values], dim=-1).long()
    index = (torch.arange(rows)[:, None, None] >= start).sum(dim=-1) - 1
    z = torch.nn.functional.one_hot(index, categories).double()
    pi = z.mean(dim=0).expand_as(z)
    return pi.log(), pi, z


def table(z: Tensor, seed: int = 1) -> Tensor:
    """G `[rows, instances, categories]` from an arbitrary table of gradients."""
    categories = z.shape[-1]
    return torch.einsum("blk,lkj->blj", z, randn(z.shape[-2], categories, categories, seed=seed))


def warmed(estimator: torch.nn.Module, batch: tuple[Tensor, ...], steps: int = 1) -> torch.nn.Module:
    for _ in range(steps):
        estimator.pullback(*batch)
    return estimator


@pytest.mark.parametrize("categories", SIZES)
def test_ends_of_the_family_are_straight_through_and_reinmax(categories):
    logits, pi, z = balanced(categories)
    g = table(z)
    torch.testing.assert_close(M_s(pi, z - pi, g, 0.0), StraightThrough().pullback(logits, pi, z, g))
    reinmax = ReinMax().pullback(logits, pi, z, g)
    torch.testing.assert_close(M_s(pi, z - pi, g, 1.0), reinmax, rtol=1e-6, atol=1e-12)
    Delta = g - (g * z).sum(dim=-1, keepdim=True)
    zgr = (pi * Delta - z * (pi * Delta).sum(dim=-1, keepdim=True)) / 2
    torch.testing.assert_close(zgr, reinmax, rtol=1e-6, atol=1e-12)


def step(pi: Tensor, z: Tensor, g: Tensor, s: float, alpha: float) -> tuple[Tensor, Tensor]:
    """The base b = pi + s d and the distribution pi_D one step of size alpha away from it."""
    b = pi + s * (z - pi)
    v = b - alpha * pi * delta(g, b)
    return b, v / v.sum(dim=-1, keepdim=True)


@pytest.mark.parametrize("s", [0.0, 0.5, 1.0])
def test_family_is_the_limit_of_small_steps(s):
    _, pi, z = balanced(5)
    g, limit = table(z), M_s(pi, z - pi, table(z), s)
    for alpha in (1e-4, 1e-6):
        b, pi_D = step(pi, z, g, s, alpha)
        error = ((b - pi_D) / (alpha * (1 + s**2)) - limit).abs().max()
        assert error < 50 * alpha


@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0])
def test_finite_step_from_the_draw_is_reinmax_rescaled(alpha):
    logits, pi, z = balanced(5)
    g = 0.3 * table(z)
    _, pi_D = step(pi, z, g, 1.0, alpha)
    scale = 1 + alpha * (g * (z - pi)).sum(dim=-1, keepdim=True)
    torch.testing.assert_close((z - pi_D) / (2 * alpha) * scale, ReinMax().pullback(logits, pi, z, g))


def test_difference_of_pi_and_the_draw_is_pure_noise():
    logits, pi, z = balanced(5)
    torch.testing.assert_close((pi - z).mean(dim=0), torch.zeros_like(pi[0]))
    estimate = ILS(step_size=0.05, normalizer="simplex").pullback(logits, pi, z, table(z))
    pi_D = pi - estimate
    torch.testing.assert_close(estimate.mean(dim=0), (z - pi_D).mean(dim=0))


def difference(estimator: torch.nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """E estimate - E ReinMax, over a balanced batch."""
    estimate = estimator.eval().pullback(*batch)
    return (estimate - ReinMax().pullback(*batch)).mean(dim=0)


def settled(estimator: ILSDiagonal, batch: tuple[Tensor, ...]) -> ILSDiagonal:
    """The state at which E c = 0, by solving for it: c is affine in h."""
    _, pi, z, g = batch
    _, latents, categories = pi.shape
    estimator.build(latents, categories)
    start = estimator.observe(pi, z, g)[0]
    columns = []
    for unit in torch.eye(categories, dtype=pi.dtype):
        estimator.h = unit.expand(latents, -1)
        columns.append(start - estimator.observe(pi, z, g)[0])
    A = torch.stack(columns, dim=-1)
    estimator.h = (torch.linalg.pinv(A, rtol=1e-12) @ start.unsqueeze(-1)).squeeze(-1)
    return estimator


@pytest.mark.parametrize("base", [0.0, 0.5])
@pytest.mark.parametrize("categories", SIZES)
def test_population_curvature_gives_the_expectation_of_reinmax_for_every_table(categories, base):
    logits, pi, z = balanced(categories)
    batch = (logits, pi, z, table(z))
    assert difference(warmed(ILSNewton(ridge=0.0, base=base), batch), batch).abs().max() < 1e-9
    assert difference(settled(ILSDiagonal(base=base), batch), batch).abs().max() < 1e-9
    assert difference(StraightThrough(), batch).abs().max() > 1e-2


@pytest.mark.parametrize("categories", SIZES)
def test_diagonal_recursion_settles_where_nothing_is_left_to_explain(categories):
    logits, pi, z = balanced(categories)
    batch = (logits, pi, z, table(z))
    start = difference(StraightThrough(), batch).norm(dim=-1)
    left = difference(warmed(ILSDiagonal(decay=0.5, base=0.0), batch, 200), batch).norm(dim=-1) / start.median()
    assert left.median() < 1e-6
    assert left.max() < 0.02  # the slowest directions are those of two categories that share all probability


def test_number_is_enough_for_two_categories():
    logits, pi, z = balanced(2)
    batch = (logits, pi, z, table(z))
    assert difference(warmed(ILSIsotropic(base=0.0), batch), batch).abs().max() < 1e-9
    newton, isotropic = warmed(ILSNewton(ridge=0.0), batch), warmed(ILSIsotropic(), batch)
    torch.testing.assert_close(newton.pullback(*batch), isotropic.pullback(*batch), rtol=1e-8, atol=1e-8)


def joint(categories: int, latents: int) -> tuple[Tensor, Tensor, Tensor]:
    """A balanced batch of one problem with several latents: all combinations of each latent's own rows."""
    _, _, z = balanced(categories, instances=latents, rows=categories + 2)
    combinations = torch.tensor(list(itertools.product(range(len(z)), repeat=latents)))
    z = z[combinations, torch.arange(latents)]
    pi = z.mean(dim=0).expand_as(z)
    return pi.log(), pi, z


def quadratic(z: Tensor) -> Tensor:
    size = z.flatten(1).shape[-1]
    return (z.flatten(1) @ randn(size, size) * z.flatten(1)).sum(dim=-1)


def net(z: Tensor) -> Tensor:
    size = z.flatten(1).shape[-1]
    return torch.tanh(z.flatten(1) @ randn(size, 6)) @ randn(6, seed=3)


def decoder(z: Tensor) -> Tensor:
    size = z.flatten(1).shape[-1]
    pixels = torch.relu(z.flatten(1) @ randn(size, 8)) @ randn(8, 10, seed=3)
    target = torch.arange(10.0, dtype=torch.float64).remainder(2).expand_as(pixels)
    return torch.nn.functional.binary_cross_entropy_with_logits(pixels, target, reduction="none").sum(dim=-1)


@pytest.mark.parametrize("f", [quadratic, net, decoder])
@pytest.mark.parametrize(("categories", "latents"), [(2, 4), (3, 3), (5, 2)])
def test_population_curvature_gives_the_expectation_of_reinmax_with_several_latents(f, categories, latents):
    logits, pi, z = joint(categories, latents)
    leaf = z.clone().requires_grad_()
    (g,) = torch.autograd.grad(f(leaf).sum(), leaf)
    batch = (logits, pi, z, g)
    assert difference(warmed(ILSNewton(ridge=0.0, base=0.0), batch), batch).abs().max() < 1e-9
    assert difference(settled(ILSDiagonal(base=0.0), batch), batch).abs().max() < 1e-9


def test_ridge_leaves_a_small_bias():
    logits, pi, z = balanced(5)
    batch = (logits, pi, z, table(z))
    size = ReinMax().pullback(*batch).mean(dim=0).norm(dim=-1)
    relative = difference(warmed(ILSNewton(base=0.0), batch), batch).norm(dim=-1) / size
    assert 1e-4 < relative.median() < 0.02


@pytest.mark.parametrize("s", [0.25, 0.5, 1.0])
def test_base_shrinks_the_distance_to_reinmax_for_any_symmetric_curvature(s):
    logits, pi, z = balanced(4)
    batch, root = (logits, pi, z, table(z)), randn(INSTANCES, 4, 4)
    reinmax = ReinMax().pullback(*batch).mean(dim=0)
    at = {b: newton_step(pi, z, batch[-1], root + root.mT, b).mean(dim=0) - reinmax for b in (0.0, s)}
    torch.testing.assert_close(at[s], (1 - s**2) / (1 + s**2) * at[0.0], rtol=1e-9, atol=1e-12)


def test_newton_target_and_its_quadratic_loss_give_the_formula():
    _, pi, z = balanced(4)
    g, root = table(z), randn(INSTANCES, 4, 4)
    H = root @ root.mT + torch.eye(4)
    v = z - torch.linalg.solve(H, g.unsqueeze(-1)).squeeze(-1)
    gap = torch.eye(4, dtype=z.dtype) - v.unsqueeze(-2)  # y - v for every one-hot y
    distance = torch.einsum("blyk,lkj,blyj->bly", gap, H, gap) / 2
    torch.testing.assert_close(J(pi, distance), newton_step(pi, z, g, H, 0.0), rtol=1e-9, atol=1e-9)


def test_control_variate_keeps_the_expectation_of_reinmax_over_rows_that_differ():
    rows, categories = 4, 3
    logits, G = randn(rows, 1, categories), randn(rows, categories, categories, seed=1)
    pi = logits.softmax(dim=-1)
    mean, reference = torch.zeros_like(pi), torch.zeros_like(pi)
    for index in itertools.product(range(categories), repeat=rows):
        z = torch.nn.functional.one_hot(torch.tensor(index), categories).double().unsqueeze(1)
        g = G[torch.arange(rows), torch.tensor(index)].unsqueeze(1)
        p = (pi * z).sum(dim=-1).prod()
        mean += p * ILSCV().pullback(logits, pi, z, g)
        reference += p * ReinMax().pullback(logits, pi, z, g)
    torch.testing.assert_close(mean, reference, rtol=1e-12, atol=1e-13)


def test_coefficient_of_a_row_does_not_see_the_row():
    R, d = randn(6, 2, 3), randn(6, 2, 3, seed=1)
    before = leave_one_out_coefficient(R, d)
    R[2], d[2] = 5 * R[2] + 1, -d[2]
    after = leave_one_out_coefficient(R, d)
    torch.testing.assert_close(after[2], before[2])
    assert ((after - before).abs() > 1e-3).any(dim=0).all()


@pytest.mark.parametrize("make", [ILSCV, *POOLED])
def test_constants_added_to_the_loss_or_along_the_simplex_change_nothing(make):
    logits, pi, z = balanced(4)
    g = table(z)
    shift = (z * randn(4, seed=7)).sum(dim=-1, keepdim=True)  # f + c(z) (sum_k z_k - 1): equal to f on the simplex
    plain, shifted = (warmed(make(), (logits, pi, z, x), 3).pullback(logits, pi, z, x) for x in (g, g + shift))
    torch.testing.assert_close(shifted, plain, rtol=1e-9, atol=1e-12)
