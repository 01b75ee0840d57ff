"""Trains jobs on a Ray cluster, whose machines see the folder of the comparison under the same path."""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from ils_lightning.compare.launchers.base import Answers, Launcher
from ils_lightning.compare.training.attempt import Advance, elsewhere
from ils_lightning.compare.training.fit import Result
from ils_lightning.compare.training.job import Job
from ils_lightning.errors import Refusal

ray: Any = import_module("ray")


def train(job: Job, folder: str) -> Result | None:
    """Does on a machine of the cluster what `elsewhere` does, in the folder in which the comparison was started."""
    os.chdir(folder)
    return elsewhere(job, lambda share: None)


class RayCluster(Launcher):
    """Gives Ray a task for each job, one core each; a task whose machine is lost is begun again by Ray.

    Args:
        workers: tasks that run at a time; as many as the cluster has cores for unless given.
        advance: called with 1 when a job is done.
        options: of `ray.init`, such as `address` (a cluster that exists is looked for first, then one is made here),
            and `num_cpus`.
        folder: of the comparison.

    Raises:
        ValueError: when the cluster cannot be reached, or an option is unknown.
    """

    pause = 2.0

    def __init__(self, workers: int | None, advance: Advance, options: Mapping[str, Any], folder: Path) -> None:
        del folder
        super().__init__(advance)
        self.most = workers
        try:
            ray.init(**{"log_to_driver": False, "logging_level": "ERROR", **options})
        except (RuntimeError, ValueError, ConnectionError) as error:
            raise Refusal(f"--launcher ray: {' '.join(str(error).split())}") from None
        self._task = ray.remote(num_cpus=1)(train)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        ray.shutdown()  # which ends this comparison's tasks

    def attempts(self, pending: dict[int, Job]) -> Answers:
        waiting, running = list(pending), {}
        while waiting or running:
            while waiting and (self.most is None or len(running) < self.most):
                position = waiting.pop(0)
                running[self._task.remote(pending[position], os.getcwd())] = position
            (done,), _ = ray.wait(list(running))
            position = running.pop(done)
            answer = self._answer(done, pending[position])
            self.advance(answer is not None)
            yield position, answer and (pending[position].result() or answer)

    def _answer(self, done: Any, job: Job) -> Result | None:
        try:
            return ray.get(done)
        except ray.exceptions.RayError as error:
            reason = [line for line in str(error).splitlines() if line.strip()][-1].strip()
            raise Refusal(f"{job.label}: a task ended without a result, what is finished is kept: {reason}") from None
