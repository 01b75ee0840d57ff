"""Trains jobs in this process or in several; any number of comparisons may work on one folder.

A job is claimed by a lock on a file in its folder. The operating system drops the lock of a process that died, so a
claim is never stale; what another process has claimed is waited for.
"""

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any, Self

import torch
from filelock import FileLock, Timeout

from ils_lightning.compare.job import Job
from ils_lightning.compare.training import Result, train

_PAUSE = 0.3  # seconds between two looks at what other processes do
_counter: Any = None  # in a worker: shares of jobs done, summed over all workers

Advance = Callable[[float], None]


def attempt(job: Job, advance: Advance) -> Result | None:
    """Returns the result of a job, training it if need be; None while another process trains it."""
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.folder / "claim", timeout=0):
            result = job.result()
            if result is None:
                result = train(job, advance)
                gc.collect()  # model, data and Trainer refer to each other: their memory would be held for many jobs
                return result
            advance(1)
            return result
    except Timeout:
        return None


class Pool:
    """Trains jobs, `workers` at a time; one worker is this process itself. Results do not depend on the number.

    Args:
        workers: processes; the number of free cores less one unless given, and at least one.
        advance: called with the share of a job that is newly done; 1 is a whole job.

    Raises:
        ValueError: when `workers` is less than 1.
    """

    def __init__(self, workers: int | None, advance: Advance) -> None:
        self.workers = max(cores() - 1, 1) if workers is None else workers
        if self.workers < 1:
            raise ValueError(f"--workers must be at least 1; given {workers}")
        self.advance = advance
        self._executor: ProcessPoolExecutor | None = None
        self._shares: Any = None

    def __enter__(self) -> Self:
        if self.workers > 1:
            spawn = multiprocessing.get_context("spawn")
            self._shares = spawn.Value("d", 0.0)
            self._executor = ProcessPoolExecutor(self.workers, spawn, _begin, (self._shares,))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._executor is None:
            return
        if kind is not None:
            for worker in multiprocessing.active_children():
                worker.terminate()  # which lets it save the step it is in
        self._executor.shutdown(cancel_futures=True)

    def results(self, jobs: list[Job]) -> Iterator[tuple[int, Result]]:
        """Yields position and result of every job, as they are finished.

        Raises:
            ValueError: when a worker process died.
        """
        pending = dict(enumerate(jobs))
        while pending:
            before = len(pending)
            for position, result in self._round(pending):
                if result is not None:
                    del pending[position]
                    yield position, result
            if len(pending) == before:
                time.sleep(_PAUSE)

    def _round(self, pending: dict[int, Job]) -> Iterator[tuple[int, Result | None]]:
        """Tries every pending job once."""
        jobs = list(pending.items())
        if self._executor is None:
            yield from ((position, attempt(job, self.advance)) for position, job in jobs)
            return
        with _ignoring_interrupts():  # workers are started here, and inherit it
            futures = {self._executor.submit(_work, job): position for position, job in jobs}
        try:
            while futures:
                done, _ = wait(futures, timeout=_PAUSE, return_when=FIRST_COMPLETED)
                self._report()
                for future in done:
                    position, answer = futures.pop(future), future.result()
                    # tensors stay in files: sent between processes they would share memory with a worker that may end
                    yield position, answer and (pending[position].result() or answer)
        except BrokenProcessPool:
            raise ValueError(
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


def cores() -> int:
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(counter: Any) -> None:
    """Prepares a worker."""
    global _counter
    _counter = counter
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this worker when the comparison is killed, which cannot tell it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _count(share: float) -> None:
    with _counter.get_lock():
        _counter.value += share


def _work(job: Job) -> Result | None:
    """Returns None while another process trains the job, else what cannot be read from its folder."""
    try:
        result = attempt(job, _count)
    except KeyboardInterrupt:
        os._exit(1)  # the next job in the queue would be begun otherwise
    return None if result is None else {"failed": result.get("failed", "")}
