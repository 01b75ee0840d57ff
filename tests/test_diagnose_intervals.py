"""The intervals of a gradient report against bias and variance by enumeration of the draws themselves."""

import pytest
from interval_table import covered

from ils_lightning.diagnose import intervals


@pytest.mark.long
def test_intervals_hold_in_95_of_100_problems():
    inside = covered(range(200), draws=2000).double().mean(dim=0)
    assert inside.mean(dim=0).min() >= 0.95  # of bias, of variance
    assert inside.min() >= 0.95 - 3 * (0.95 * 0.05 / 200) ** 0.5  # of every estimator


@pytest.mark.slow
def test_intervals_hold_in_a_few_problems():
    assert covered(range(200, 215), draws=1000).double().mean() >= 0.9


@pytest.mark.slow
def test_intervals_that_leave_out_the_noise_of_the_mean_would_fail(monkeypatch):
    monkeypatch.setattr(intervals, "student", lambda freedom: intervals.Z / 3)
    monkeypatch.setattr(intervals, "TAIL", 0.24)
    assert covered(range(200, 215), draws=1000).double().mean() < 0.8
