"""Intervals, paired differences and values at equal budgets."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ils_lightning.compare.report.curves import Curve
from ils_lightning.compare.training.outcome import Outcome, plateau


class Difference(NamedTuple):
    """Mean of paired differences, its standard error (NaN for a single pair), and the number of pairs."""

    mean: float
    error: float
    pairs: int


def bootstrap(values: Tensor, resamples: int = 2000) -> tuple[float, float]:
    """Returns the 95 % percentile interval of the mean of `values` `[n]`, with a fixed seed."""
    index = torch.randint(len(values), (resamples, len(values)), generator=torch.Generator().manual_seed(0))
    low, high = values[index].mean(dim=1).quantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return low, high


def standard_error(values: Tensor) -> float:
    """Returns the standard error of the mean of `values` `[n]`; NaN for fewer than two.

    Example:
        >>> standard_error(torch.tensor([1.0, 2.0, 3.0]))
        0.577...
    """
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")


def rows(outcome: Outcome, measure: str | None) -> Tensor:
    """Returns what the ranking averages: the measure `[1]`, or the plateau of each trial `[trials]`."""
    return torch.tensor([outcome.metrics[measure]]) if measure else plateau(outcome.values)


def difference(curve: Curve, reference: Curve, measure: str | None) -> Difference:
    """Returns curve less reference, paired by seed (and by trial); seeds that failed in either are left out."""
    mine = {outcome.seed: rows(outcome, measure) for outcome in curve.finished}
    theirs = {outcome.seed: rows(outcome, measure) for outcome in reference.finished}
    apart = [mine[seed] - theirs[seed] for seed in mine if seed in theirs and mine[seed].shape == theirs[seed].shape]
    if not apart:
        return Difference(float("nan"), float("nan"), 0)
    each = torch.cat(apart).double()
    return Difference(float(each.mean()), standard_error(each), len(each))


def at_equal(curves: list[Curve], spent: Callable[[Outcome], Tensor]) -> tuple[float, list[float]]:
    """Returns the smallest budget that all curves used up, and the value of each curve there, averaged over seeds.

    The value is read off each seed's own curve, linear between its points: NaN before the first one.

    Args:
        curves: of one setting.
        spent: what an outcome had spent at its recorded points `[points]`.
    """
    finished = [curve for curve in curves if curve.finished]
    totals = [min(float(spent(outcome)[-1]) for outcome in curve.finished) for curve in finished]
    budget = min((total for total in totals if total == total), default=float("nan"))
    values = [_mean_at(curve, budget, spent) if curve.finished else float("nan") for curve in curves]
    return budget, values


def _mean_at(curve: Curve, budget: float, spent: Callable[[Outcome], Tensor]) -> float:
    found = [
        np.interp(budget, spent(outcome).numpy(), outcome.values.mean(dim=1).numpy(), left=np.nan)
        for outcome in curve.finished
    ]
    return float(np.mean(found))


def evaluations_spent(outcome: Outcome) -> Tensor:
    """Evaluations of f at the recorded points `[points]`."""
    return outcome.spent


def seconds_spent(outcome: Outcome) -> Tensor:
    """Seconds of training at the recorded points `[points]`."""
    return outcome.times
