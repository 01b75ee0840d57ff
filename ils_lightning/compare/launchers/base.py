"""What every launcher is asked: to train jobs somewhere, and to say when each is done."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Self

from ils_lightning.compare.training.attempt import Advance
from ils_lightning.compare.training.fit import Result
from ils_lightning.compare.training.job import Job
from ils_lightning.errors import Refusal

Answers = Iterator[tuple[int, Result | None]]


class Launcher:
    """Trains jobs, in a `with` block; write `attempts`. Results do not depend on where a job is trained.

    Args:
        advance: called with the share of a job that is newly done; 1 is a whole job.
    """

    pause = 0.3
    """Seconds between two looks at what other processes do."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leaves nothing running."""
        raise NotImplementedError

    def attempts(self, pending: dict[int, Job]) -> Answers:
        """Tries every one of the `pending` jobs at most once.

        Yields:
            The key of a job with its result, or with None where another process trains it.

        Raises:
            ValueError: when a process that trains died.
        """
        raise NotImplementedError

    def results(self, jobs: list[Job]) -> Iterator[tuple[int, Result]]:
        """Yields position and result of every job, as they are finished."""
        pending = dict(enumerate(jobs))
        while pending:
            before = len(pending)
            for position, result in self.attempts(dict(pending)):
                if result is not None:
                    del pending[position]
                    yield position, result
            if len(pending) == before:
                time.sleep(self.pause)


Launch = Callable[[Advance], Launcher]
"""Makes a launcher that reports to a progress bar."""


def cores() -> int:
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked(workers: int | None) -> int | None:
    """Returns the number of workers.

    Raises:
        ValueError: when it is less than 1.
    """
    if workers is not None and workers < 1:
        raise Refusal(f"--workers must be at least 1; given {workers}")
    return workers
