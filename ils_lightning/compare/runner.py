"""Trains the grid: tuning first, then what is reported."""

from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ils_lightning.cli.errors import did_you_mean
from ils_lightning.cli.messages import explain
from ils_lightning.compare.job import make
from ils_lightning.compare.outcome import Outcome, outcomes
from ils_lightning.compare.pool import Pool
from ils_lightning.compare.spec import Comparison, Run
from ils_lightning.compare.training import make as make_parts
from ils_lightning.data import DiscreteData
from ils_lightning.describe import arguments, create
from ils_lightning.estimators import Estimator
from ils_lightning.modules import DiscreteModule

Part = tuple[Run, str, int, dict[str, Any]]
"""Run, setting, seed and tuned change."""


class Runner:
    """Trains every run of a comparison; what is finished is not trained again, what was interrupted goes on.

    Args:
        comparison: the grid.
        folder: where trainings are kept, a folder for each.
        workers: processes; see `Pool`.

    Attributes:
        tuning: outcomes on tuning seeds, once `run` has returned.
    """

    def __init__(self, comparison: Comparison, folder: Path, workers: int | None = 1) -> None:
        self.comparison, self.folder, self.workers = comparison, folder, workers
        self.parts = [(run, setting) for run in comparison.runs for setting in run.parts()]
        self.tuning: list[Outcome] = []

    def run(self) -> list[Outcome]:
        """Returns the outcomes on reporting seeds, in the order of the file."""
        refusals = [self._check(run, setting) for run, setting in self.parts]
        if all(refusals):
            raise ValueError(f"no run can be made; the first: {refusals[0]}")
        trials = self._trials()
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with bar:
            task = bar.add_task("runs", total=len(trials) + len(self.parts) * len(self.comparison.seeds))
            with Pool(self.workers, lambda share: bar.advance(task, share)) as pool:
                self.tuning = self._train(pool, trials)
                return self._report(pool)

    def _report(self, pool: Pool) -> list[Outcome]:
        """Trains on reporting seeds what has a chance, and says so of the rest."""
        parts: list[Part] = []
        hopeless: list[Outcome] = []
        for run, setting in self.parts:
            change, why_not = self._chosen(run, setting)
            for seed in self.comparison.seeds:
                if why_not:
                    hopeless += outcomes(run, make(self.comparison, run, setting, seed, {}, self.folder), why_not)
                else:
                    parts.append((run, setting, seed, change))
        order = {run.name: number for number, run in enumerate(self.comparison.runs)}
        return sorted([*self._train(pool, parts), *hopeless], key=lambda outcome: order[outcome.run])

    def _check(self, run: Run, setting: str) -> str:
        """Makes a run's model and data, so that a mistake in the last one shows before the first one trains.

        Returns:
            Why the estimator cannot serve the model, or nothing: that is a result, not a mistake.
        """
        name = f"run {f'{run.name} {setting}'.strip()!r}"
        config = self.comparison.configuration(run, self.comparison.seeds[0], setting)
        steps, epochs = config["trainer"].get("max_steps"), config["trainer"].get("max_epochs")
        if not any(isinstance(end, int) and end >= 1 for end in (steps, epochs)):
            raise ValueError(
                f"{name}: trainer.max_steps or trainer.max_epochs must be a whole number of at least 1; "
                f"given {steps} and {epochs}"
            )
        try:
            model, _ = make_parts(config)
        except ValueError as error:
            _raise_mistakes(name, config)
            return str(error)
        if model.tracked is None:
            raise ValueError(f"compare needs a model that records a curve; {type(model).__name__} records none")
        return ""

    def _trials(self) -> list[Part]:
        """What has to be trained to choose the tuned key."""
        tune = self.comparison.tune
        if tune is None:
            return []
        values = [(value, seed) for value in tune.candidates for seed in tune.seeds]
        return [(run, setting, seed, {tune.key: value}) for run, setting in self.parts for value, seed in values]

    def _train(self, pool: Pool, parts: list[Part]) -> list[Outcome]:
        jobs = [make(self.comparison, *part, self.folder) for part in parts]
        found: dict[int, list[Outcome]] = {}
        for position, result in pool.results(jobs):
            found[position] = outcomes(parts[position][0], jobs[position], result)
            for outcome in found[position]:
                self._check_measures(outcome)
        return [outcome for position in range(len(jobs)) for outcome in found[position]]

    def _check_measures(self, outcome: Outcome) -> None:
        tune = self.comparison.tune
        for measure in filter(None, (self.comparison.measure, tune.measure if tune else None)):
            if not outcome.failed and measure not in outcome.metrics:
                known = sorted(outcome.metrics)
                raise ValueError(
                    f"run {outcome.run!r} has no measure {measure!r}{did_you_mean(measure, known)}; "
                    f"it has {', '.join(known) or 'none'}"
                )

    def _chosen(self, run: Run, setting: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Returns the tuned key with the value whose score, averaged over tuning seeds, is lowest.

        The second answer is the failure to report where no candidate has a finite score; else it is empty.
        """
        tune = self.comparison.tune
        if tune is None:
            return {}, {}
        names = run.settings.names() if run.settings and run.shared else [setting]
        tried = [outcome for outcome in self.tuning if outcome.run == run.name and outcome.setting in names]
        scores: dict[float, list[float]] = {value: [] for value in tune.candidates}
        for outcome in tried:
            scores[outcome.change[tune.key]].append(outcome.score(tune.measure or self.comparison.measure))
        best = min(scores, key=lambda value: _mean_or_infinity(scores[value]))
        if _mean_or_infinity(scores[best]) < float("inf"):
            return {tune.key: best}, {}
        values = ", ".join(f"{value:g}" for value in tune.candidates)
        why = next((outcome.failed for outcome in tried if outcome.failed), "scores are not finite")
        return {}, {"failed": f"no candidate of {tune.key} gives a finite score; tried {values}: {why}"}


def _raise_mistakes(name: str, config: dict) -> None:
    """Raises a ValueError where a part of the configuration by itself is at fault."""
    try:
        create(config["data"], DiscreteData)
        arguments(config["model"], DiscreteModule)
        create(config["model"]["init_args"]["estimator"], Estimator)
    except ValueError as error:
        bases: list[type] = [DiscreteData, DiscreteModule, Estimator]
        root = next((base for base in bases if str(error).startswith(f"{base.__name__}:")), DiscreteModule)
        raise ValueError(f"{name}: {explain(str(error), [], {'value': root})}") from None


def _mean_or_infinity(scores: list[float]) -> float:
    mean = sum(scores) / len(scores)
    return mean if mean == mean else float("inf")
