"""What one run, setting and seed came to."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ils_lightning.compare.grid.spec import Comparison, Run
from ils_lightning.compare.training.job import Job
from ils_lightning.modules import Tracked


@dataclass
class Outcome:
    """One line of the raw results.

    Args:
        run: name of the run.
        setting: label of the setting, or empty.
        seed: of the training.
        change: tuned keys and their values.
        failed: why there is no result, or empty.
        steps: recorded steps `[points]`.
        values: of the tracked quantity `[points, trials]`.
        times: seconds of training after which the points were recorded `[points]`.
        tracked: name and label of that quantity.
        metrics: last logged values, those of the test set included.
        optimizer_steps: taken.
        evaluations: of f for one optimiser step, summed over the rows of a batch; the mean where they change.
        spent: evaluations of f after which the points were recorded `[points]`.
        seconds: of training, without validation and test; shared by settings that share a training.
        p: true distributions `[trials, categories]` of toy data.
    """

    run: str
    setting: str
    seed: int
    change: dict[str, Any]
    failed: str = ""
    steps: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    values: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    times: Tensor = field(default_factory=lambda: torch.zeros(0))
    tracked: Tracked = field(default_factory=lambda: Tracked("", ""))
    metrics: dict[str, float] = field(default_factory=dict)
    optimizer_steps: int = 0
    evaluations: float = float("nan")
    spent: Tensor = field(default_factory=lambda: torch.zeros(0))
    seconds: float = float("nan")
    p: Tensor | None = None

    def score(self, measure: str | None) -> float:
        """Returns the measure, or the plateau of the curve; NaN after a failure."""
        if self.failed:
            return float("nan")
        return self.metrics[measure] if measure else float(plateau(self.values).mean())


def outcomes(run: Run, job: Job, result: dict[str, Any]) -> list[Outcome]:
    """Returns the outcome of a job, or one for each setting that shared its training."""
    names = run.settings.names() if run.settings and run.settings.shared else [job.setting]
    if result.get("failed"):
        return [Outcome(run.name, name, job.seed, job.change, result["failed"]) for name in names]
    shared = len(names) if run.shared else 0
    return [_outcome(run.name, name, index if shared else None, job, result) for index, name in enumerate(names)]


def in_order(comparison: Comparison, found: list[Outcome]) -> list[Outcome]:
    """Sorts by run, setting and seed, as the file has them; of two of a kind the first is kept."""
    places = {place: number for number, place in enumerate(_places(comparison))}
    by_place = {(outcome.run, outcome.setting, outcome.seed): outcome for outcome in reversed(found)}
    return [by_place[place] for place in sorted(by_place, key=lambda place: places[place])]


def missing(comparison: Comparison, found: list[Outcome]) -> list[str]:
    """Returns what of the comparison is not among the outcomes: a line for each run and setting, with the seeds."""
    seeds: dict[str, list[str]] = {}
    for run, setting, seed in _absent(comparison, found):
        seeds.setdefault(f"{run} {setting}".strip(), []).append(str(seed))
    return [f"{name}, seed {', '.join(without)}" for name, without in seeds.items()]


def counted(comparison: Comparison, found: list[Outcome]) -> str:
    """Returns how many trainings of the comparison are not among the outcomes, and of how many."""
    shared = {run.name for run in comparison.runs if run.shared}
    absent, whole = (
        {(run, "" if run in shared else setting, seed) for run, setting, seed in places}
        for places in (_absent(comparison, found), _places(comparison))
    )
    return f"{len(absent)} of {len(whole)} trainings"


def _absent(comparison: Comparison, found: list[Outcome]) -> list[tuple[str, str, int]]:
    there = {(outcome.run, outcome.setting, outcome.seed) for outcome in found}
    return [place for place in _places(comparison) if place not in there]


def _places(comparison: Comparison) -> list[tuple[str, str, int]]:
    """All runs, settings and seeds, in the order of the file."""
    pairs = [(run.name, setting) for run in comparison.runs for setting in run.labels()]
    return [(*pair, seed) for pair in pairs for seed in comparison.seeds]


def _outcome(run: str, name: str, index: int | None, job: Job, result: dict[str, Any]) -> Outcome:
    values, p = result["values"], result.get("p")
    rows = values if index is None else values[:, index]
    rows = rows.reshape(len(rows), -1)
    rows_of = 1 if index is None else values.shape[1]
    return Outcome(
        run,
        name,
        job.seed,
        job.change,
        failed=_diverged(result["steps"], rows),
        steps=result["steps"],
        values=rows,
        times=result["times"],
        tracked=Tracked(*result["tracked"]),
        metrics=result["metrics"] if index is None else {},
        optimizer_steps=result["optimizer_steps"],
        evaluations=result["evaluations"] / rows_of,
        spent=result.get("spent", result["steps"] * result["evaluations"]) / rows_of,  # results of before have none
        seconds=result["seconds"],
        p=p if p is None or index is None else p[index],
    )


def _diverged(steps: Tensor, values: Tensor) -> str:
    if torch.isfinite(values[-1]).all():
        return ""
    broken = (~torch.isfinite(values)).any(dim=1).nonzero()[0]
    return f"diverged: the curve is not finite at step {int(steps[broken])}"


def plateau(values: Tensor) -> Tensor:
    """Mean over the last fifth of the recorded points, `[*rows]`, of `values` `[points, *rows]`."""
    return values[-max(len(values) // 5, 1) :].mean(dim=0)
