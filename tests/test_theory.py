"""The statements of docs/theory.md that no other test makes, by enumeration in float64; and its list of tests.

One row, one latent unless said: at each of the K draws any table of gradients, `g[k]` at z = e_k, belongs to some f.
"""

import itertools
import math
import re
from pathlib import Path

import pytest
import torch
from random_problems import newton_step
from torch import Tensor
from unlike_rows_table import main

from ils_lightning.estimators import (
    ILS,
    ILSCV,
    Average,
    Estimator,
    ILSDiagonal,
    ILSIsotropic,
    ILSJoint,
    ILSLeaveOneOut,
    ILSLowRank,
    ILSNewton,
    ILSResidual,
    ILSTempered,
    ILSTemperedDiagonal,
    LatinHypercube,
    ReinMax,
    StraightThrough,
)
from ils_lightning.estimators import __all__ as public
from ils_lightning.estimators.family import J, M_s, Step, delta
from ils_lightning.estimators.intermediate import normalize

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
SIZES = (2, 3, 4, 6)
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def symmetric(*shape: int, seed: int = 0) -> Tensor:
    root = randn(*shape, shape[-1], seed=seed)
    return root + root.mT


def draws(categories: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pi and the K draws, both `[K, 1, K]`: a row for each draw."""
    z = torch.eye(categories, dtype=torch.float64).unsqueeze(1)
    return randn(categories, seed=seed).softmax(dim=-1).expand_as(z), z


def mean(estimates: Tensor, pi: Tensor) -> Tensor:
    """The expectation `[K]` of estimates `[K, 1, K]`, one at each draw."""
    return torch.einsum("k,kj->j", pi[0, 0], estimates[:, 0])


def diag(H: Tensor) -> Tensor:
    return H.diagonal(dim1=-2, dim2=-1)


# 2: the published step


def small_step(pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
    """E of the published estimate, divided by a small step size."""
    return mean(ILS(step_size=1e-7).pullback(pi.log(), pi, z, g), pi) / 1e-7


@pytest.mark.parametrize("categories", SIZES)
def test_published_step_to_first_order(categories):
    pi, z = draws(categories)
    g = randn(categories, 1, categories, seed=1)
    Delta = delta(g, z)
    torch.testing.assert_close(
        small_step(pi, z, g), mean(Delta - z * Delta.sum(dim=-1, keepdim=True), pi), rtol=1e-4, atol=1e-5
    )


def test_published_step_is_the_gradient_times_a_number_at_even_pi():
    for categories in SIZES:
        _, z = draws(categories)
        c, even = randn(categories, seed=2), torch.full_like(z, 1 / categories)
        expected = 2 * categories * J(even[0, 0], c)
        torch.testing.assert_close(small_step(even, z, c.expand_as(z)), expected, rtol=1e-4, atol=1e-5)
    pi, z = draws(2)
    p, c = pi[0, 0, 0], randn(2, seed=2)
    expected = J(pi[0, 0], c) / (p * (1 - p))
    torch.testing.assert_close(small_step(pi, z, c.expand_as(z)), expected, rtol=1e-4, atol=1e-5)


def test_published_step_on_linear_losses_can_point_uphill():
    pi = torch.tensor([0.9, 0.0999, 0.0001], dtype=torch.float64)
    z, c = draws(3)[1], torch.tensor([1.0, -9.0, 40.0], dtype=torch.float64)
    found = small_step(pi.expand_as(z), z, c.expand_as(z))
    assert torch.nn.functional.cosine_similarity(found, J(pi, c), dim=0) < -0.1


@pytest.mark.parametrize("pullback", ["softmax", "none"])
def test_published_experiment_settles_at_its_floor(pullback):
    p, step = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64), 0.7
    z = draws(4)[1]
    pi = p * (1 + step * (1 - p))
    pi = (pi / pi.sum()).expand_as(z)
    g = -(1 - z) * p  # the loss' slope off the draw, in units of 1 / epsilon; alpha is given in epsilon
    estimate = ILS(step_size=step, pullback=pullback).pullback(pi.log(), pi, z, g)
    assert mean(estimate, pi).abs().max() < 1e-5  # the program adds 1e-7 to pi


@pytest.mark.slow
@pytest.mark.parametrize(("categories", "share"), [(5, 0.01), (32, 0.38), (512, 0.49)])
def test_share_of_draws_whose_step_cannot_be_divided_by_its_sum(categories, share):
    expected = 0.5 * math.erfc(1 / (0.1 * math.sqrt(2 * categories * (categories - 1))))
    assert round(expected, 2) == share
    g = randn(20_000, categories)
    z = torch.nn.functional.one_hot(torch.zeros(len(g), dtype=torch.long), categories).double()
    _, small = normalize(z - 0.1 * delta(g, z), torch.ones_like(z) > 0, "sum")
    assert abs(small.double().mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / len(g)) + 2e-4


def test_projected_step_does_not_become_linear_however_small():
    pi, z = draws(4)
    g = randn(4, 1, 4, seed=1)

    def direction(slope: Tensor, alpha: float, normalizer: str) -> Tensor:
        estimate = ILS(step_size=alpha, normalizer=normalizer).pullback(pi.log(), pi, z, slope)  # pyright: ignore
        return (estimate - (pi - z)) / alpha

    for alpha in (1e-2, 1e-4):
        torch.testing.assert_close(direction(g, alpha, "simplex"), direction(g, 1e-3, "simplex"))
        assert (direction(g, alpha, "simplex") + direction(-g, alpha, "simplex")).abs().max() > 0.1
    assert (direction(g, 1e-6, "sum") + direction(-g, 1e-6, "sum")).abs().max() < 1e-3


# 3: the family


@pytest.mark.parametrize("s", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("alpha", [1e-3, 0.2])
def test_step_of_any_size_is_the_map_rescaled(s, alpha):
    pi, z = draws(5)
    g = randn(5, 1, 5, seed=1)
    b = pi + s * (z - pi)
    v = b - alpha * pi * delta(g, b)
    along = ((z - pi) * g).sum(dim=-1, keepdim=True)
    expected = (1 + s**2) * M_s(pi, z - pi, g, s) / (1 + alpha * s * along)
    torch.testing.assert_close((b - v / v.sum(dim=-1, keepdim=True)) / alpha, expected, **TIGHT)


@pytest.mark.parametrize("categories", SIZES)
@pytest.mark.parametrize("s", [0.0, 0.5, 1.0, 2.0])
def test_expectation_is_a_theta_method_along_the_edges(categories, s):
    pi, z = draws(categories)
    g = randn(categories, categories, seed=1)  # g[j] at e_j
    w = s**2 / (1 + s**2)
    own, phi = g.diagonal(), torch.zeros(categories, dtype=torch.float64)
    for i, j in itertools.product(range(categories), repeat=2):
        phi[i] += pi[0, 0, j] * ((1 - w) * (g[j, i] - own[j]) + w * (own[i] - g[i, j]))
    torch.testing.assert_close(mean(M_s(pi, z - pi, g.unsqueeze(1), s), pi), J(pi[0, 0], phi), **TIGHT)


def all_draws(categories: int, latents: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pi and every joint draw `[states, latents, K]`, and the draws' probabilities."""
    index = torch.tensor(list(itertools.product(range(categories), repeat=latents)))
    z = torch.nn.functional.one_hot(index, categories).double()
    pi = randn(latents, categories, seed=3).softmax(dim=-1).expand_as(z)
    return pi, z, (pi * z).sum(dim=-1).prod(dim=-1)


def quadratic(latents: int, categories: int) -> tuple[Tensor, Tensor]:
    """A and a of f = a.z + 1/2 z.A z over all latents."""
    return symmetric(latents * categories, seed=4), randn(latents * categories, seed=5)


def exact(pi: Tensor, z: Tensor, probability: Tensor, f: Tensor) -> Tensor:
    """The gradient of E f for independent latents, from f at every joint draw."""
    return torch.einsum("n,n,nlk->lk", probability, f, z - pi)


@pytest.mark.parametrize("s", [0.0, 0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("categories", "latents"), [(2, 3), (4, 1), (3, 3)])
def test_bias_on_quadratic_losses(categories, latents, s):
    pi, z, probability = all_draws(categories, latents)
    A, a = quadratic(latents, categories)
    flat = z.flatten(1)
    g = (a + flat @ A).view_as(z)
    f = flat @ a + 0.5 * (flat @ A * flat).sum(dim=-1)
    own = torch.stack([A.view(latents, categories, latents, categories)[i, :, i] for i in range(latents)])
    bias = torch.einsum("n,nlk->lk", probability, M_s(pi, z - pi, g, s)) - exact(pi, z, probability, f)
    expected = J(pi[0], torch.einsum("lkj,lj->lk", own, pi[0]) - diag(own) / 2)
    torch.testing.assert_close(bias, (1 - s**2) / (1 + s**2) * expected, **TIGHT)


@pytest.mark.parametrize("categories", SIZES)
def test_bias_on_smooth_losses_is_a_third_derivative(categories):
    pi, z = draws(categories)
    for seed in range(20):
        w, phase = randn(categories, seed=seed), randn(1, seed=100 + seed)
        f, slope = torch.sin(w + phase), torch.cos(w + phase)  # f(z) = sin(w.z + phase) at the draws
        g = (slope[:, None] * w).unsqueeze(1)
        bias = mean(ReinMax().pullback(pi.log(), pi, z, g), pi) - J(pi[0, 0], f)
        third = (w[:, None] - w).abs().max() ** 3
        assert (bias.abs() <= pi[0, 0] * (1 - pi[0, 0]) * third / 12 + 1e-12).all()


@pytest.mark.parametrize("categories", SIZES)
def test_cubic_losses_have_every_table_of_values_and_gradients(categories):
    values, gradients = randn(categories), randn(categories, categories, seed=1)
    pairs = list(itertools.permutations(range(categories), 2))

    def f(z: Tensor) -> Tensor:
        found = sum(values[i] * (3 * z[i] ** 2 - 2 * z[i] ** 3) for i in range(categories))
        found += sum(gradients[i, i] * (z[i] ** 3 - z[i] ** 2) for i in range(categories))
        return found + sum(gradients[i, j] * z[i] ** 2 * z[j] for i, j in pairs)

    for i, e in enumerate(torch.eye(categories, dtype=torch.float64)):
        torch.testing.assert_close(f(e), values[i])
        torch.testing.assert_close(torch.func.grad(f)(e), gradients[i])


# 4: curvature


@pytest.mark.parametrize("s", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("categories", SIZES)
def test_bias_for_any_symmetric_curvature(categories, s):
    pi, z = draws(categories)
    g, H = randn(categories, 1, categories, seed=1), symmetric(1, categories, seed=2)
    rho = g - torch.einsum("lkj,blj->blk", H, z)
    c = mean(delta(rho, pi) * (z - pi), pi)
    bias = mean(newton_step(pi, z, g, H, s) - ReinMax().pullback(pi.log(), pi, z, g), pi)
    expected = -0.5 * (1 - s**2) / (1 + s**2) * (c - pi[0, 0] * c.sum())
    torch.testing.assert_close(bias, expected, **TIGHT)


@pytest.mark.parametrize("s", [0.0, 0.5])
def test_bias_of_a_row_is_that_of_its_own_curvature_less_the_pooled_one(s):
    pi, z = draws(4)
    table, H = randn(4, 4, seed=1), symmetric(1, 4, seed=2)  # table[k] = g at e_k, so that g = A z with A = table^T
    bias = mean(newton_step(pi, z, table.unsqueeze(1), H, s) - ReinMax().pullback(pi.log(), pi, z, table[:, None]), pi)
    D = (table + table.T) / 2 - H[0]
    expected = (1 - s**2) / (1 + s**2) * J(pi[0, 0], D @ pi[0, 0] - D.diagonal() / 2)
    torch.testing.assert_close(bias, expected, **TIGHT)


def pooled(rows: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The population's curvature `[1, K, K]` of rows, each pi `[K]` and table[k] = g at e_k `[K, K]`."""
    S = sum(torch.einsum("k,ka,kb->ab", pi, table, torch.eye(len(pi)).to(pi) - pi) for pi, table in rows)
    P = sum(torch.diag(pi) - torch.outer(pi, pi) for pi, _ in rows)
    H = S @ torch.linalg.pinv(P, rtol=1e-12, hermitian=True)
    return ((H + H.T) / 2).unsqueeze(0)


def biases(rows: list[tuple[Tensor, Tensor]], s: float = 0.0) -> Tensor:
    """E estimate - E ReinMax of each row under the pooled curvature `[rows, K]`."""
    H, found = pooled(rows), []
    for pi, table in rows:
        z = torch.eye(len(pi)).to(pi).unsqueeze(1)
        at, g = pi.expand_as(z), table.unsqueeze(1)
        found.append(mean(newton_step(at, z, g, H, s) - ReinMax().pullback(at.log(), at, z, g), at))
    return torch.stack(found)


def test_which_rows_may_share_a_curvature():
    categories, count = 4, 6
    pis = [randn(categories, seed=i).softmax(dim=-1) for i in range(count)]
    tables = [randn(categories, categories, seed=20 + i) for i in range(count)]
    constants = randn(count, categories, seed=50)
    same_table = biases([(pi, tables[0] + c) for pi, c in zip(pis, constants, strict=True)])
    assert same_table.abs().max() < 1e-10  # linear parts and logits may differ
    turned = [tables[0] + (table - table.mT) for table in tables]
    assert biases([(pi, turned[1]) for pi in pis]).abs().max() < 1e-10  # one antisymmetric part for all
    assert biases(list(zip(pis, turned, strict=True))).abs().max() > 0.01  # one for each row
    same_pi = biases([(pis[0], table) for table in tables])
    assert same_pi.mean(dim=0).abs().max() < 1e-10  # the mean over rows is right
    assert same_pi.abs().max() > 0.1  # a row is not
    unlike = biases(list(zip(pis, tables, strict=True)))
    assert unlike.mean(dim=0).abs().max() > 0.03
    at_half = biases(list(zip(pis, tables, strict=True)), s=0.5)
    torch.testing.assert_close(at_half, 0.6 * unlike, **TIGHT)
    assert biases(list(zip(pis, tables, strict=True)), s=1.0).abs().max() < 1e-10


def test_no_noise_of_the_own_draw_is_left_on_a_quadratic_loss_at_base_zero():
    pi, z = draws(4)
    A, a = symmetric(4, seed=4), randn(4, seed=5)
    estimate = newton_step(pi, z, a + z @ A, A.unsqueeze(0), 0.0)
    torch.testing.assert_close(estimate, J(pi, a + A.diagonal() / 2))


@pytest.mark.parametrize("categories", [3, 4, 6])
def test_diagonal_curvature_solves_a_dominated_system(categories):
    pi, z = draws(categories)
    estimator = ILSDiagonal()
    estimator.build(1, categories)
    zero, columns = torch.zeros_like(z), []
    for unit in torch.eye(categories, dtype=torch.float64):
        estimator.h = -unit.unsqueeze(0)  # then rho = h z, and E c is a column of the system
        columns.append(mean((delta(zero - estimator.h * z, pi) * (z - pi)), pi))
    found, p = torch.stack(columns, dim=-1), pi[0, 0]
    expected = torch.outer(p, p.square())
    expected.diagonal().copy_(p * (1 - p).square())
    torch.testing.assert_close(found, expected, **TIGHT)
    off = found.sum(dim=-1) - found.diagonal()
    assert (found.diagonal() > off).all()
    assert (found.diagonal() <= p * (1 - p)).all()


# 5 to 7: temperature, unbiased members, two categories


@pytest.mark.parametrize("tau", [0.7, 1.5])
def test_temperature_is_biased_for_linear_losses_already(tau):
    pi, z = draws(4)
    c = randn(4, seed=2)
    q, p = (pi[0, 0].log() / tau).softmax(dim=-1), pi[0, 0]
    found = mean(ReinMax(temperature=tau).pullback(pi.log(), pi, z, c.expand_as(z)), pi)
    mixed = (p + q) * c - (q * (q @ c) + q * (p @ c) + p * (q @ c) + p * c) / 2 - J(p, c) / 2
    torch.testing.assert_close(found, mixed, **TIGHT)
    assert (found - J(p, c)).norm() > 0.02 * J(p, c).norm()


def test_residual_is_unbiased_for_every_table_and_state():
    pi, z = draws(4)
    values, gradients = randn(4, seed=1), randn(4, 1, 4, seed=2)
    estimator = ILSResidual().double().eval()
    estimator.build(1, 4)
    estimator.a, estimator.curvature.h = randn(1, 4, seed=3), randn(1, 4, seed=4)
    estimator.totals = torch.tensor([2.0, 0.7, 0.4, 1.1], dtype=torch.float64)
    estimate = estimator._residual(pi, z, values, gradients)
    torch.testing.assert_close(mean(estimate, pi), J(pi[0, 0], values), **TIGHT)


def variance_of_bins(pi: Tensor, w: Tensor, samples: int) -> Tensor:
    """Variance of the mean of w[z] over draws of one latent, one in each bin."""
    ends = torch.cat([pi.new_zeros(1), pi.cumsum(0)]) * samples
    total = torch.zeros((), dtype=torch.float64)
    for number in range(samples):
        share = (ends[1:].clamp(number, number + 1) - ends[:-1].clamp(number, number + 1)).double()
        total += share @ w.square() - (share @ w).square()
    return total / samples**2


def test_spread_draws_leave_the_noise_of_bins_with_a_jump():
    latents, categories, samples, rows = 3, 4, 4, 20_000
    pi, w = randn(latents, categories, seed=1).softmax(dim=-1), randn(latents, categories, seed=2)
    logits = pi.log().expand(rows, -1, -1).requires_grad_()
    expected = sum(variance_of_bins(p, one, samples) for p, one in zip(pi, w, strict=True))
    independent = ((pi * w.square()).sum(dim=-1) - (pi * w).sum(dim=-1).square()).sum() / samples
    widths = w.amax(dim=-1) - w.amin(dim=-1)
    assert expected <= (categories - 1) * widths.square().sum() / (4 * samples**2)
    assert expected < independent / 2

    def z_score(estimator: Estimator) -> float:
        torch.manual_seed(0)
        square = (estimator(logits, lambda z: (z * w).sum(dim=(-2, -1))).detach() - (pi * w).sum()).square()
        return float((square.mean() - expected) / (square.std() / rows**0.5))

    assert abs(z_score(LatinHypercube(ReinMax(), samples))) < 4
    assert z_score(Average(ReinMax(), samples)) > 10


def test_two_categories_leave_a_number_that_pi_does_not_touch():
    values, gradients = randn(2, seed=1), randn(2, 1, 2, seed=2)
    shares = []
    for seed in range(5):
        pi, z = draws(2, seed=seed)
        found = mean(ReinMax().pullback(pi.log(), pi, z, gradients), pi)
        shares.append(found / J(pi[0, 0], values))
    D = gradients[:, 0, 0] - gradients[:, 0, 1]
    expected = (D.sum() / 2 / (values[0] - values[1])).expand(5, 2)
    torch.testing.assert_close(torch.stack(shares), expected, rtol=1e-9, atol=0)


def test_step_has_the_jacobian_as_its_mean():
    pi, z = draws(5)
    v = randn(5, seed=1)
    for s in (0.0, 0.5, 1.0):
        torch.testing.assert_close(mean(Step(pi, z, s)(v.expand_as(z)), pi), J(pi[0, 0], v), **TIGHT)
    linear = mean(StraightThrough().pullback(pi.log(), pi, z, v.expand_as(z)), pi)
    torch.testing.assert_close(linear, J(pi[0, 0], v), **TIGHT)


# the page


CURVED = (ILSNewton, ILSDiagonal, ILSIsotropic, ILSJoint, ILSLowRank)
TEMPERED = (ReinMax, ILSCV, ILSTempered, ILSTemperedDiagonal)
EXACT_FOR = {
    "none": [ILS(), *(make(temperature=1.3) for make in TEMPERED)],
    "linear": [StraightThrough(), *(make(base=0.5) for make in CURVED)],
    "quadratic": [*(make(base=1.0) for make in CURVED), *(make(temperature=1.0) for make in TEMPERED)],
    "all": [ILSLeaveOneOut(), ILSResidual()],
}


def test_table_of_what_is_exact_is_what_classes_declare():
    table = PAGE.split("## 8.")[1].split("## 9.")[0]
    for declared, estimators in EXACT_FOR.items():
        for estimator in estimators:
            assert estimator.exact_for == declared
            assert f"`{type(estimator).__name__}`" in table


@pytest.mark.long
def test_table_of_unlike_rows_is_what_the_command_prints(capsys):
    main()
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert all(line in PAGE for line in printed)


def test_every_test_that_the_page_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)`((?:[,:\s]+(?:and\s+)?`test_\w+`)*)", PAGE)
    of_files = {test for _, tests in named for test in re.findall(r"test_\w+", tests)}
    assert of_files == set(re.findall(r"`(test_\w+)`", PAGE))
    for file, tests in named:
        source = (ROOT / file).read_text(encoding="utf-8")
        for test in re.findall(r"test_\w+", tests):
            assert f"def {test}(" in source, f"{file} has no {test}"


def test_every_estimator_that_the_page_names_exists():
    assert {name for name in re.findall(r"`(ILS\w*|ReinMax\w*)(?:\([^`]*\))?`", PAGE)} <= set(public)
