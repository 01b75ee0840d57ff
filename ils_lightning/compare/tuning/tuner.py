"""`compare --tune`: searches options of every run and setting on tuning seeds."""

import hashlib
import json
import time
from dataclasses import asdict, replace
from itertools import compress
from pathlib import Path
from statistics import fmean

from optuna.storages import BaseStorage

from ils_lightning.compare.grid.search import Range, Search
from ils_lightning.compare.grid.spec import Comparison, Run
from ils_lightning.compare.launchers import Launch, Launcher
from ils_lightning.compare.training import check, job, progress
from ils_lightning.compare.training.outcome import outcomes
from ils_lightning.compare.tuning.choice import validated
from ils_lightning.compare.tuning.journal import storage
from ils_lightning.compare.tuning.ranges import searched, start
from ils_lightning.compare.tuning.study import Proposal, Study
from ils_lightning.errors import Refusal

_PAUSE = 0.5  # seconds between two looks at the trials of other processes


class Searched:
    """A run under a setting, the ranges of its keys, and its study."""

    def __init__(
        self, comparison: Comparison, search: Search, run: Run, setting: str, folder: Path, storage: BaseStorage
    ) -> None:
        self.run, self.setting = run, setting
        self.ranges: dict[str, Range] = searched(comparison, search, run, setting)
        config = comparison.configuration(run, search.seeds[0], setting, search.change)
        what = [config, {key: asdict(one) for key, one in self.ranges.items()}, search.seeds, search.measure]
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
        name = f"{f'{run.name} {setting}'.strip()} {digest}"
        self.study = Study(storage, folder, name, self.ranges, start(config, self.ranges), search.seed)


class Tuner:
    """Searches until every run and setting has its trials; others may work on the same folder.

    In a round every study proposes `at_once` trials, and all of them are trained by the launcher. So what is found
    does not depend on the launcher or the number of workers. Where several processes share the folder, proposals
    depend on which trial was done first.

    Args:
        comparison: whose options are searched.
        trials: for each run and setting.
        folder: of the comparison.
        launch: makes what trains.

    Attributes:
        broken: trainings that ended in an error, which is no score, and the error.

    Raises:
        ValueError: where a configuration or a range is at fault, or tuning seeds are reporting seeds.
    """

    def __init__(self, comparison: Comparison, trials: int, folder: Path, launch: Launch) -> None:
        if trials < 1:
            raise Refusal(f"--tune is the number of trials for each run and setting, at least 1; given {trials}")
        self.search = _search(comparison)
        self.comparison = replace(comparison, tune=None, search=self.search)
        self.measure = validated(self.search.measure or comparison.measure)
        self.trials, self.folder, self.launch = trials, folder, launch
        self.broken: list[str] = []
        parts = [(run, setting) for run in comparison.runs for setting in run.parts()]
        configured = check.configured(comparison, parts)
        served = [not why_not for why_not in check.models_can_be_made(configured)]  # what is not is reported later
        parts, configured = list(compress(parts, served)), list(compress(configured, served))
        studies = folder / "study"
        kept = storage(studies)
        self.searched = [Searched(self.comparison, self.search, *part, studies, kept) for part in parts]
        check.data_are_there(configured)

    def run(self) -> None:
        """Makes the trials that are missing, and waits for those of other processes."""
        bar = progress.bar()
        seeds = len(self.search.seeds)
        task = bar.add_task("trainings of trials", total=len(self.searched) * self.trials * seeds)
        with self.launch(lambda share: bar.advance(task, share)) as launcher, bar:
            bar.advance(task, seeds * sum(len(one.study.trials()) for one in self.searched))
            while not all(len(one.study.trials()) >= self.trials for one in self.searched):
                if not self._round(launcher):
                    time.sleep(_PAUSE)
            bar.update(task, completed=bar.tasks[0].total)

    def _round(self, launcher: Launcher) -> bool:
        proposals = [
            (one, proposal)
            for one in self.searched
            for _ in range(self.search.at_once)
            if (proposal := one.study.propose(self.trials))
        ]
        try:
            self._train(proposals, launcher)
        finally:
            for _, proposal in proposals:
                proposal.claim.release()
        return bool(proposals)

    def _train(self, proposals: list[tuple[Searched, Proposal]], launcher: Launcher) -> None:
        """Trains each proposal on all tuning seeds, and tells its study the mean score once all are done."""
        seeds = self.search.seeds
        jobs = [self._job(one, proposal.values, seed) for one, proposal in proposals for seed in seeds]
        scores: list[list[float]] = [[] for _ in proposals]
        for position, result in launcher.results(jobs):
            one, proposal = proposals[position // len(seeds)]
            found = outcomes(one.run, jobs[position], result)
            if result.get("failed") and jobs[position].result() is None:
                self.broken.append(f"{jobs[position].label}: {result['failed']}")
            for outcome in found:
                check.measure_exists(outcome, self.measure)
            mine = scores[position // len(seeds)]
            mine.append(fmean(outcome.score(self.measure) for outcome in found))
            if len(mine) == len(seeds):
                one.study.tell(proposal, fmean(mine))

    def _job(self, one: Searched, values: dict[str, float], seed: int) -> job.Job:
        change = {**self.search.change, **values}
        return job.make(self.comparison, one.run, one.setting, seed, change, self.folder / "runs")


def _search(comparison: Comparison) -> Search:
    """What the file says; else the seeds and the measure of the grid that it would try."""
    tune = comparison.tune
    search = comparison.search or (Search(tune.seeds, tune.measure, tune.change) if tune else Search())
    both = sorted(set(search.seeds) & set(comparison.seeds))
    if both:
        raise Refusal(
            f"tuning seeds {search.seeds} and reporting seeds {comparison.seeds} must differ; both have {both}"
        )
    return search
