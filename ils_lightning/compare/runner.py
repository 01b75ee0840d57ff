"""Trains the grid: tuning first, then what is reported."""

from pathlib import Path

from ils_lightning.compare.grid.spec import Comparison, Run
from ils_lightning.compare.launchers import Launch, Launcher
from ils_lightning.compare.training import check, progress
from ils_lightning.compare.training.job import make
from ils_lightning.compare.training.outcome import Outcome, in_order, outcomes
from ils_lightning.compare.tuning.choice import Part, chosen, trials
from ils_lightning.errors import Refusal


class Runner:
    """Trains every run of a comparison; what is finished is not trained again, what was interrupted goes on.

    Args:
        comparison: the grid.
        folder: where trainings are kept, a folder for each.
        launch: makes what trains.

    Attributes:
        tuning: outcomes on tuning seeds, once `run` has returned.
        broken: trainings that ended in an error, which is no result, and the error.
    """

    def __init__(self, comparison: Comparison, folder: Path, launch: Launch) -> None:
        self.comparison, self.folder, self.launch = comparison, folder, launch
        self.parts = [(run, setting) for run in comparison.runs for setting in run.parts()]
        self.tuning: list[Outcome] = []
        self.broken: list[str] = []

    def run(self) -> list[Outcome]:
        """Returns the outcomes on reporting seeds, in the order of the file.

        Raises:
            ValueError: when a configuration is at fault, or no estimator can serve its model.
        """
        with check.naming_overrides(self.comparison.override):
            configured = check.configured(self.comparison, self.parts)
            refusals = check.models_can_be_made(configured)
            check.trainers_can_be_made(configured)
        if all(refusals):
            raise Refusal(f"no run can be made; the first: {refusals[0]}")
        with check.naming_overrides(self.comparison.override):
            check.data_are_there(configured)
        self.folder.mkdir(parents=True, exist_ok=True)
        tried, tune = trials(self.comparison, self.parts), self.comparison.tune
        bar = progress.bar()
        task = bar.add_task("runs", total=len(tried) + len(self.parts) * len(self.comparison.seeds))
        with self.launch(lambda share: bar.advance(task, share)) as launcher, bar:
            self.tuning = self._train(launcher, tried, (tune and tune.measure) or self.comparison.measure)
            found = self._report(launcher)
            bar.update(task, completed=bar.tasks[0].total)
        return found

    def finished(self) -> list[Outcome]:
        """Returns the outcomes on reporting seeds that are kept in the folder, without training anything."""
        tried = [(part, self._kept(part)) for part in trials(self.comparison, self.parts)]
        self.tuning = [outcome for _, found in tried for outcome in found]
        unknown = [part[:2] for part, found in tried if not found]
        parts, hopeless = self._parts([pair for pair in self.parts if pair not in unknown])
        return [*(outcome for part in parts for outcome in self._kept(part)), *hopeless]

    def _report(self, launcher: Launcher) -> list[Outcome]:
        """Trains on reporting seeds what has a chance, and says so of the rest."""
        parts, hopeless = self._parts(self.parts)
        return in_order(self.comparison, [*self._train(launcher, parts, self.comparison.measure), *hopeless])

    def _parts(self, pairs: list[tuple[Run, str]]) -> tuple[list[Part], list[Outcome]]:
        """What is to be trained of these runs and settings once tuning is done, and outcomes of what has no chance."""
        parts: list[Part] = []
        hopeless: list[Outcome] = []
        for run, setting in pairs:
            change, why_not = chosen(self.comparison, run, setting, self.tuning)
            for seed in self.comparison.seeds:
                if why_not:
                    hopeless += outcomes(run, make(self.comparison, run, setting, seed, {}, self.folder), why_not)
                else:
                    parts.append((run, setting, seed, change))
        return parts, hopeless

    def _kept(self, part: Part) -> list[Outcome]:
        """The outcomes of a training that is finished, else nothing."""
        job = make(self.comparison, *part, self.folder)
        result = job.result()
        return outcomes(part[0], job, result) if result is not None else []

    def _train(self, launcher: Launcher, parts: list[Part], measure: str | None) -> list[Outcome]:
        jobs = [make(self.comparison, *part, self.folder) for part in parts]
        found: dict[int, list[Outcome]] = {}
        for position, result in launcher.results(jobs):
            found[position] = outcomes(parts[position][0], jobs[position], result)
            if result.get("failed") and jobs[position].result() is None:
                self.broken.append(f"{jobs[position].label}: {result['failed']}")
            for outcome in found[position]:
                check.measure_exists(outcome, measure)
        return [outcome for position in range(len(jobs)) for outcome in found[position]]
