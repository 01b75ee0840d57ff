"""Trains jobs in this process or in several of this machine."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Self

from ils_lightning import worker_process
from ils_lightning.compare.launchers.base import Answers, Launcher, checked, cores
from ils_lightning.compare.training.attempt import Advance, attempt, elsewhere
from ils_lightning.compare.training.fit import Result
from ils_lightning.compare.training.job import Job
from ils_lightning.errors import Refusal


class Pool(Launcher):
    """Trains jobs, `workers` at a time; one worker is this process itself. Results do not depend on the number.

    Args:
        workers: processes; the number of free cores less one unless given, and at least one.
        advance: called with the share of a job that is newly done; 1 is a whole job.

    Raises:
        ValueError: when `workers` is less than 1.
    """

    def __init__(self, workers: int | None, advance: Advance) -> None:
        super().__init__(advance)
        self.workers = checked(workers) or max(cores() - 1, 1)
        self._executor: ProcessPoolExecutor | None = None
        self._shares: Any = None

    def __enter__(self) -> Self:
        if self.workers > 1:
            spawn = multiprocessing.get_context("spawn")
            self._shares = spawn.Value("d", 0.0)
            begun_with = (self._shares, __name__)
            self._executor = ProcessPoolExecutor(self.workers, spawn, worker_process.begin, begun_with)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._executor is None:
            return
        if kind is not None:
            for worker in multiprocessing.active_children():
                worker.terminate()  # which lets it save the step it is in
        self._executor.shutdown(cancel_futures=True)

    def attempts(self, pending: dict[int, Job]) -> Answers:
        jobs = list(pending.items())
        if self._executor is None:
            yield from ((position, attempt(job, self.advance)) for position, job in jobs)
            return
        with _ignoring_interrupts():  # workers are started here, and inherit it
            futures = {self._executor.submit(_work, job): position for position, job in jobs}
        try:
            while futures:
                done, _ = wait(futures, timeout=self.pause, return_when=FIRST_COMPLETED)
                self._report()
                for future in done:
                    position, answer = futures.pop(future), future.result()
                    # tensors stay in files: sent between processes they would share memory with a worker that may end
                    yield position, answer and (pending[position].result() or answer)
        except BrokenProcessPool:
            raise Refusal(
                "a worker process died (out of memory?); what is finished is kept: start again with fewer --workers"
            ) from None

    def _report(self) -> None:
        with self._shares.get_lock():
            share, self._shares.value = self._shares.value, 0.0
        self.advance(share)


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Leaves Ctrl-C to this process, which ends its workers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _work(job: Job) -> Result | None:
    try:
        return elsewhere(job, worker_process.count)
    except KeyboardInterrupt:
        os._exit(1)  # the next job in the queue would be begun otherwise
