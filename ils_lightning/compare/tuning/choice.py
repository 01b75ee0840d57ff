"""Choosing a key for each run and setting on seeds that are not reported."""

from typing import Any

from ils_lightning.compare.grid.spec import Comparison, Run
from ils_lightning.compare.training.outcome import Outcome
from ils_lightning.errors import Refusal

Part = tuple[Run, str, int, dict[str, Any]]
"""What is trained: run, setting, seed and change."""


def validated(measure: str | None) -> str | None:
    """Returns the measure by which options are chosen.

    Raises:
        ValueError: when it is one of the test data: what is chosen by them does not count on them.

    Example:
        >>> validated("val/loss")
        'val/loss'
    """
    if measure and measure.startswith("test/"):
        raise Refusal(
            f"options would be chosen by {measure!r}, on the test data that are reported: let search.measure (or "
            f"tune.measure) name a quantity of the validation data, such as {measure.replace('test/', 'val/', 1)}"
        )
    return measure


def trials(comparison: Comparison, parts: list[tuple[Run, str]]) -> list[Part]:
    """Returns what has to be trained to choose the tuned key of every run and setting."""
    tune = comparison.tune
    if tune is None:
        return []
    validated(tune.measure or comparison.measure)
    values = [(value, seed) for value in tune.candidates for seed in tune.seeds]
    return [(*part, seed, {**tune.change, tune.key: value}) for part in parts for value, seed in values]


def chosen(
    comparison: Comparison, run: Run, setting: str, tried: list[Outcome]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the tuned key with the value whose score, averaged over tuning seeds, is lowest.

    The second answer is the failure to report where no candidate has a finite score; else it is empty.

    Args:
        comparison: whose key is tuned, if any.
        run: for which.
        setting: under which; empty where settings share a training.
        tried: outcomes of all trials.
    """
    tune = comparison.tune
    if tune is None:
        return {}, {}
    names = run.settings.names() if run.settings and run.shared else [setting]
    mine = [outcome for outcome in tried if outcome.run == run.name and outcome.setting in names]
    scores: dict[float, list[float]] = {value: [] for value in tune.candidates}
    for outcome in mine:
        scores[outcome.change[tune.key]].append(outcome.score(tune.measure or comparison.measure))
    best = min(scores, key=lambda value: _mean_or_infinity(scores[value]))
    if _mean_or_infinity(scores[best]) < float("inf"):
        return {tune.key: best}, {}
    values = ", ".join(f"{value:g}" for value in tune.candidates)
    why = next((outcome.failed for outcome in mine if outcome.failed), "scores are not finite")
    return {}, {"failed": f"no candidate of {tune.key} gives a finite score; tried {values}: {why}"}


def _mean_or_infinity(scores: list[float]) -> float:
    mean = sum(scores) / len(scores)
    return mean if mean == mean else float("inf")
