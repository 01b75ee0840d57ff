"""ILSLowRank: ILSDiagonal's expectation whatever it has learnt, the curvature's main directions, and a linear state."""

import itertools

import pytest
import torch
from random_problems import RandomProblem, noise, quadratic, random_problem
from test_ils_joint import CATEGORIES, LATENTS, ROWS, expectation, randn

from ils_lightning.estimators import ILSDiagonal, ILSLowRank, ReinMax, ils_low_rank


def with_state(estimator: ILSDiagonal) -> ILSDiagonal:
    """An estimator that has learnt something arbitrary, and learns no more."""
    estimator.build(LATENTS, CATEGORIES)
    estimator.h = randn(LATENTS, CATEGORIES, seed=1)
    if isinstance(estimator, ILSLowRank):
        root = randn(*estimator.C.shape, seed=2)
        estimator.V, estimator.Y = (randn(*estimator.V.shape, seed=seed) for seed in (3, 4))
        estimator.C = root @ root.mT
        estimator.fit = torch.stack(
            [randn(2, LATENTS, 1, seed=5), torch.ones(2, LATENTS, 1), torch.zeros(2, LATENTS, 1)]
        )
    return estimator.double().eval()


@pytest.mark.parametrize("base", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_expectation_is_that_of_the_diagonal_whatever_has_been_learnt_beside_its_state(base, rank):
    expected = expectation(with_state(ILSDiagonal(base=base)))
    torch.testing.assert_close(
        expectation(with_state(ILSLowRank(rank=rank, base=base))), expected, rtol=1e-11, atol=1e-12
    )


def test_expectation_at_base_one_is_that_of_reinmax():
    torch.testing.assert_close(expectation(with_state(ILSLowRank(base=1.0))), expectation(ReinMax()))


def test_features_that_see_the_own_draw_have_another_expectation(monkeypatch):
    whole = ils_low_rank.features
    monkeypatch.setattr(ils_low_rank, "features", lambda V, d: whole(V, d) + torch.bmm(d.transpose(0, 1), V))
    assert (expectation(with_state(ILSLowRank())) - expectation(with_state(ILSDiagonal()))).abs().max() > 0.01


def of_rank(rank: int, latents: int) -> RandomProblem:
    """Rows that differ in their linear part and share a curvature of so many directions."""
    size = latents * CATEGORIES
    root, x = randn(size, rank, seed=6), randn(ROWS, size, seed=7)
    A = root @ torch.diag(torch.tensor([2.0, -1.5, 1.0, -1.0][:rank]).double()) @ root.T / size**0.5
    logits = randn(ROWS, size, seed=8).unflatten(-1, (latents, CATEGORIES))
    return RandomProblem("quadratic", CATEGORIES, latents, False, logits, quadratic(A, x))


@pytest.mark.slow
def test_finds_the_directions_there_are():
    given = of_rank(2, latents=12)
    few, one, diagonal = (noise(make, given, 60) for make in (low_rank(2), low_rank(1), ILSDiagonal(base=0.0)))
    assert few < 0.1 * diagonal
    assert few < 0.5 * one


def low_rank(rank: int) -> ILSLowRank:
    return ILSLowRank(0.95, rank, base=0.0)


@pytest.mark.slow
def test_directions_that_stay_where_they_began_find_nothing(monkeypatch):
    given, turned = of_rank(2, latents=12), noise(low_rank(2), of_rank(2, latents=12), 60)
    monkeypatch.setattr(torch.linalg, "qr", lambda W: type("Fixed", (), {"Q": begun(W)}))
    assert noise(low_rank(2), given, 60) > 5 * turned


def begun(W: torch.Tensor) -> torch.Tensor:
    """Directions that nothing turns."""
    return torch.linalg.svd(randn(*W.shape, seed=9), full_matrices=False).U.to(W)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("kind", ["quadratic", "mlp", "decoder"])
def test_adds_no_noise_on_random_problems(kind, alike):
    given = random_problem(kind, 3, 4, ROWS, alike, seed=3)
    assert noise(ILSLowRank(), given) < noise(ILSDiagonal(), given)


def test_state_is_linear_in_latents_and_categories():
    def numbers(latents: int, categories: int) -> int:
        estimator = ILSLowRank()
        estimator.build(latents, categories)
        return sum(x.numel() for x in estimator.state_dict().values())

    sizes = {size: numbers(*size) for size in itertools.product((64, 128), (256, 512))}
    assert sizes[128, 512] == 2 * sizes[64, 512]
    assert sizes[64, 512] < 2 * sizes[64, 256]
    assert sizes[64, 512] < 25 * 64 * 512


def test_begins_anew_when_all_is_forgotten():
    torch.manual_seed(0)
    given, estimator = of_rank(2, latents=4), ILSLowRank()
    for _ in range(5):
        estimator.estimate(given.logits, given.loss)
    before = estimator.Y.abs().sum()
    with torch.no_grad():
        for name in estimator.statistics:
            getattr(estimator, name).zero_()
    for _ in range(5):
        estimator.estimate(given.logits, given.loss)
    assert estimator.Y.abs().sum() > 0.1 * before > 0


def test_one_latent_alone_has_nothing_to_answer_to():
    logits = randn(30, 1, 4, seed=1)
    estimates = []
    for estimator in (ILSLowRank(base=0.0), ILSDiagonal(base=0.0)):
        torch.manual_seed(0)
        for _ in range(3):
            found = estimator.estimate(logits, lambda z: z[..., 0, :2].square().sum(-1))[1]
        estimates.append(found)
    torch.testing.assert_close(*estimates)


@pytest.mark.parametrize("rank", [0, -1, 2.5])
def test_other_ranks_are_refused(rank):
    with pytest.raises(ValueError, match=rf"rank must be .*; given {rank}"):
        ILSLowRank(rank=rank)
