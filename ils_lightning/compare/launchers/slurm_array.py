"""Trains jobs as the tasks of a SLURM array, or, to try that out, as processes of this machine."""

import os
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError
from submitit.helpers import DelayedSubmission

from ils_lightning.compare.launchers.base import Answers, Launcher, cores
from ils_lightning.compare.training.attempt import Advance, elsewhere, is_claimed
from ils_lightning.compare.training.fit import Result
from ils_lightning.compare.training.job import Job
from ils_lightning.errors import Refusal

_DEFAULTS = {"name": "ils_lightning", "timeout_min": 24 * 60, "cpus_per_task": 1}
_SHARED = ("name", "nodes")  # the names without an underscore that submitit has for any cluster


class Task:
    """A job on its way to a node. SLURM ends it before its time is up, or to make room; requeued, it goes on."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self) -> Result | None:
        """Trains; returns what `elsewhere` does."""
        return elsewhere(self.job, lambda share: None)

    def checkpoint(self) -> DelayedSubmission:
        """What to do again: the training's own checkpoint says from where."""
        return DelayedSubmission(self)


class SlurmArray(Launcher):
    """Submits all jobs that are neither finished nor claimed as one array, and waits for its tasks.

    Args:
        workers: tasks that run at a time; as many as the cluster has room for unless given (with `cluster=local`: the
            number of cores less one, and at least one).
        advance: called with 1 when a job is done.
        options: `cluster`, which is slurm unless given, or local; the others are submitit's parameters by its own
            names: `slurm_partition`, `timeout_min` (a day unless given), `mem_gb`, `cpus_per_task`, `gpus_per_node`...
        folder: of the comparison; scripts and logs of the tasks are in its `submitit`.

    Raises:
        ValueError: when there is no such cluster here, or a parameter is unknown.
    """

    pause = 2.0

    def __init__(self, workers: int | None, advance: Advance, options: Mapping[str, Any], folder: Path) -> None:
        super().__init__(advance)
        rest = dict(options)
        self.local = rest.pop("cluster", "slurm") == "local"
        self.most = workers or max(cores() - 1, 1) if self.local else None
        if workers and not self.local:
            rest.setdefault("slurm_array_parallelism", workers)
        logs = folder.resolve() / "submitit" / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
        self.executor = _executor(logs, str(options.get("cluster", "slurm")), rest)
        self._running: dict[int, submitit.Job] = {}

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for task in self._running.values():
            task.cancel(check=False)

    def attempts(self, pending: dict[int, Job]) -> Answers:
        free: dict[int, Job] = {}
        for position, job in pending.items():
            if (result := job.result()) is not None:
                self.advance(1)
                yield position, result
            elif not is_claimed(job):
                free[position] = job
        yield from self._train(dict(list(free.items())[: self.most]))

    def _train(self, jobs: dict[int, Job]) -> Answers:
        self._running = self._submitted(jobs)
        died = []
        while self._running:
            for position, task in list(self._finished()):
                del self._running[position]
                if error := task.exception():
                    died.append(f"{jobs[position].label}: {_last_line(error)}; its log is {task.paths.stderr}")
                    continue
                answer = task.result()
                self.advance(answer is not None)
                yield position, answer and (jobs[position].result() or answer)
            time.sleep(0.3 if self.local else self.pause)
        if died:
            raise Refusal(f"a task ended without a result, what is finished is kept: {died[0]}")

    def _submitted(self, jobs: dict[int, Job]) -> dict[int, submitit.Job]:
        if not jobs:
            return {}
        try:
            with self.executor.batch():
                return {position: self.executor.submit(Task(job)) for position, job in jobs.items()}
        except FailedJobError as error:
            raise Refusal(f"--launcher submitit: {' '.join(str(error).split())}") from None

    def _finished(self) -> Iterator[tuple[int, submitit.Job]]:
        yield from ((position, task) for position, task in self._running.items() if task.done())


def _executor(logs: Path, cluster: str, parameters: dict[str, Any]) -> submitit.AutoExecutor:
    if cluster not in ("slurm", "local"):
        raise Refusal(f"--launcher submitit: cluster must be slurm or local; given {cluster!r}")
    named = {key if "_" in key or key in _SHARED else f"slurm_{key}": value for key, value in parameters.items()}
    try:
        executor = submitit.AutoExecutor(logs, cluster=cluster)
        executor.update_parameters(**(_DEFAULTS | named))
    except (RuntimeError, ValueError, NameError, TypeError, AssertionError) as error:
        raise Refusal(f"--launcher submitit: {' '.join(str(error).split())}") from None
    return executor


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
