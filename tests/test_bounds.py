"""Bounds on the likelihood and the use of codes: the plain formulas, over batches and merged instances."""

import copy
import math

import pytest
import torch
from torchmetrics import Metric

from ils_lightning.metrics import (
    ActiveLatents,
    CodeUsage,
    ImportanceWeightedBound,
    KLDivergence,
    KLPerCategory,
    NegativeELBO,
    Perplexity,
)


def uniform(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


def codes(batch: int) -> torch.Tensor:
    return (uniform(batch, 3) ** 2 * 8).long()


CASES = [
    (NegativeELBO(), [(100 * uniform(5), uniform(5)), (100 * uniform(3), uniform(3))]),
    (ImportanceWeightedBound(), [(-100 * uniform(50, 5),), (-100 * uniform(50, 3),)]),
    (Perplexity(3, 9), [(codes(5),), (codes(40),)]),
    (CodeUsage(3, 9), [(codes(5),), (codes(40),)]),
]


def value(metric: Metric, batches: list[tuple[torch.Tensor, ...]]) -> torch.Tensor:
    metric = copy.deepcopy(metric)
    for batch in batches:
        metric.update(*batch)
    return metric.compute()


def plain(metric: Metric, *quantities: torch.Tensor) -> torch.Tensor:
    """The formula as one would write it for all the data at once."""
    if isinstance(metric, NegativeELBO):
        return sum(quantities).mean()
    if isinstance(metric, ImportanceWeightedBound):
        return -quantities[0].double().exp().mean(dim=0).log().mean().float()
    drawn = [column.bincount(minlength=9) / len(column) for column in quantities[0].T]
    if isinstance(metric, CodeUsage):
        return torch.stack([(share > 0).float().mean() for share in drawn]).mean()
    return torch.stack([torch.distributions.Categorical(share).entropy().exp() for share in drawn]).mean()


def joined(batches: list[tuple[torch.Tensor, ...]], axis: int) -> list[torch.Tensor]:
    return [torch.cat(parts, dim=axis) for parts in zip(*batches, strict=True)]


@pytest.mark.parametrize(("metric", "batches"), CASES, ids=lambda case: type(case).__name__)
def test_metrics_equal_the_plain_formula_over_all_batches(metric, batches):
    together = joined(batches, axis=-1 if isinstance(metric, NegativeELBO | ImportanceWeightedBound) else 0)
    torch.testing.assert_close(value(metric, batches), plain(metric, *together))
    assert value(metric, batches).dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "batches"), CASES, ids=lambda case: type(case).__name__)
def test_two_instances_merge_into_one(metric, batches):
    first, second = copy.deepcopy(metric), copy.deepcopy(metric)
    first.update(*batches[0])
    second.update(*batches[1])
    first.merge_state(second)
    torch.testing.assert_close(first.compute(), value(metric, batches), rtol=0, atol=0)


@pytest.mark.parametrize(("metric", "batches"), CASES, ids=lambda case: type(case).__name__)
def test_reset_forgets_and_checkpoints_are_not_needed(metric, batches):
    metric = copy.deepcopy(metric)
    metric.update(*batches[0])
    metric.reset()
    metric.update(*batches[1])
    torch.testing.assert_close(metric.compute(), value(metric, batches[1:]), rtol=0, atol=0)


def test_negative_elbo_keeps_digits_over_many_batches():
    metric = NegativeELBO()
    for _ in range(3000):
        metric.update(torch.full((100,), 90.1), torch.full((100,), 10.3))
    torch.testing.assert_close(metric.compute(), torch.tensor(100.4), rtol=1e-7, atol=0)


def test_the_bound_is_the_elbo_at_one_sample_and_tightens_with_more():
    log_weights = -50 - 10 * uniform(64, 20)
    one = value(ImportanceWeightedBound(), [(log_weights[:1],)])
    torch.testing.assert_close(one, -log_weights[0].mean())
    elbo = -log_weights.mean()
    assert elbo > value(ImportanceWeightedBound(), [(log_weights,)]) > -log_weights.amax(dim=0).mean()


def test_the_bound_withstands_weights_beyond_float32():
    torch.testing.assert_close(
        value(ImportanceWeightedBound(), [(torch.full((7, 2), -1e4),)]), torch.tensor(1e4), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("kind", [Perplexity, CodeUsage])
def test_one_hot_draws_and_codes_count_alike(kind):
    z = codes(12)
    one_hot = torch.nn.functional.one_hot(z, 9).float().reshape(2, 6, 3, 9)
    expected = value(kind(3, 9), [(z,)])
    torch.testing.assert_close(value(kind(3, 9), [(one_hot,)]), expected)
    torch.testing.assert_close(value(kind(3, 9), [(0.9 * one_hot + 0.01,)]), expected)


@pytest.mark.parametrize("categories", [1, 2, 300])
def test_perplexity_is_between_one_and_the_number_of_categories(categories):
    every = torch.arange(categories)[:, None].expand(-1, 4)
    torch.testing.assert_close(value(Perplexity(4, categories), [(every,)]), torch.tensor(float(categories)))
    torch.testing.assert_close(value(Perplexity(4, categories), [(every[:1],)]), torch.tensor(1.0))
    torch.testing.assert_close(value(CodeUsage(4, categories), [(every[:1],)]), torch.tensor(1 / categories))


@pytest.mark.parametrize("kind", [Perplexity, CodeUsage])
def test_codes_that_do_not_fit_are_named(kind):
    for z in (torch.zeros(5, 4, dtype=torch.long), torch.zeros(5, 3, 8), torch.zeros(9)):
        with pytest.raises(ValueError, match=r"\[\.\.\., latents, categories\]"):
            kind(3, 9).update(z)
    for code in (-1, 9):
        with pytest.raises(ValueError, match=f"from 0 to 8; given {code} to {code}"):
            kind(3, 9).update(torch.full((5, 3), code))
    with pytest.raises(ValueError, match="latents must be at least 1; given 0"):
        kind(0, 4)


@pytest.mark.parametrize("shapes", [((5,), (4,)), ((5, 1), (5,)), ((), ())])
def test_terms_of_the_elbo_must_match(shapes):
    with pytest.raises(ValueError, match=r"reconstruction and kl, both \[batch\]"):
        NegativeELBO().update(*map(torch.zeros, shapes))


@pytest.mark.parametrize("shape", [(5,), (0, 5), (2, 3, 4)])
def test_log_weights_must_have_samples_first(shape):
    with pytest.raises(ValueError, match=r"log_weights \[samples, batch\]"):
        ImportanceWeightedBound().update(torch.zeros(shape))


def posteriors(batch: int) -> torch.Tensor:
    """Three latents: one that tells rows apart, one drawn alike for all rows, one in between."""
    row = torch.arange(batch) % 2
    sure = torch.stack([row, 1 - row], dim=-1).double()
    return torch.stack([sure, torch.full_like(sure, 0.5), 0.5 + 0.1 * (sure - 0.5)], dim=1)


def test_active_latents_are_those_with_mutual_information_over_batches_and_merged_instances():
    pi = posteriors(6)
    mean = pi.mean(dim=0)
    information = (pi * (pi / mean).log()).nan_to_num().sum(dim=-1).mean(dim=0)  # the mean of KL(q(z | x) || q(z))
    one, other = ActiveLatents(3, 2), ActiveLatents(3, 2)
    one.update(pi[:2])
    other.update(pi[2:])
    one.merge_state(other)
    torch.testing.assert_close(one.mutual_information(), information)
    assert information[0] > 0.01 > information[2] > information[1]
    assert one.compute() == 1
    lower = ActiveLatents(3, 2, threshold=float(information[2]) / 2)
    lower.update(pi)
    assert lower.compute() == 2


def test_divergences_are_in_nats_and_per_category():
    p, pi = torch.tensor([[0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]), torch.full((2, 4), 0.25)
    expected = torch.tensor((math.log(2) + math.log(4)) / 2)
    torch.testing.assert_close(value(KLDivergence(), [(p, pi)]), expected)
    torch.testing.assert_close(value(KLPerCategory(), [(p, pi)]), expected / 4)
