"""Draws in numbers at which rare faults show: slow, and the reason why no smaller test of the same law is enough."""

import pytest
import torch
from test_categorical import chi_square_z

from ils_lightning.estimators import categorical

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("categories", "times"), [(5, 750), (40, 6000), (300, 10_000)])
def test_none_of_a_hundred_million_draws_is_masked(categories: int, times: int):
    """First, last and every third category are masked; 5 have a layout of their own, 300 are drawn by blocks.

    The three numbers of categories take 45, 45 and 10 million draws.
    """
    masked = (torch.arange(categories) % 3 == 0).index_fill_(0, torch.tensor(categories - 1), True)
    rows = 300_000 // categories
    logits = (3 * torch.randn(rows, categories)).masked_fill(masked, -float("inf"))
    pi = categorical.probabilities(logits)
    drawn = torch.zeros(categories, dtype=torch.long)
    for _ in range(times):
        drawn += categorical.draw_index(pi).bincount(minlength=categories)
    assert drawn.sum() == rows * times
    assert drawn[masked].sum() == 0
    assert drawn[~masked].min() > 0


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_ten_million_draws_from_as_many_categories_as_a_vocabulary_has(scale: float):
    pi = categorical.softmax(scale * torch.randn(131_072))
    counts = torch.zeros(131_072, dtype=torch.long)
    for _ in range(10):
        counts += categorical.draw_index(pi, 1_000_000).bincount(minlength=131_072)
    assert abs(chi_square_z(counts, pi)) < 4.5


def test_draws_from_more_categories_than_multinomial_takes_follow_the_probabilities():
    """Bins of 2^16 categories of 2^24 + 5, by blocks and by a search in all of them."""
    categories = 2**24 + 5
    pi = torch.arange(1, categories + 1, dtype=torch.float32) / categories
    bins = torch.arange(categories) // 2**16
    share = torch.zeros(257, dtype=torch.float64).index_add_(0, bins, pi.double())
    searched = categorical.draw_index(pi, 1_000_000)
    blocks = torch.cat([categorical.draw_index(pi, 4000) for _ in range(20)])
    for index in (searched, blocks):
        assert abs(chi_square_z(bins[index].bincount(minlength=257), share)) < 4.5
