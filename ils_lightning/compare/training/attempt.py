"""Training a job that no other process trains; any number of comparisons may work on one folder.

A job is claimed by a lock on a file in its folder. The operating system drops the lock of a process that died, so a
claim is never stale; what another process has claimed is waited for.
"""

import gc
from collections.abc import Callable

from filelock import FileLock, Timeout

from ils_lightning.compare.training.fit import Result, train
from ils_lightning.compare.training.job import Job
from ils_lightning.errors import is_of_the_place, of_the_disk

Advance = Callable[[float], None]
"""Is told the share of a job that is newly done; 1 is a whole job."""


def attempt(job: Job, advance: Advance) -> Result | None:
    """Returns the result of a job, training it if need be; None while another process trains it.

    Where something stands in the way of its folder or of a file there, that is the answer, and is not kept: the others
    go on.
    """
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
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
    except OSError as error:
        if not is_of_the_place(error):
            raise
        return {"failed": of_the_disk(error)}


def elsewhere(job: Job, advance: Advance) -> Result | None:
    """Attempts a job in a process that answers by files: says only what cannot be read from the job's folder."""
    result = attempt(job, advance)
    return None if result is None else {"failed": result.get("failed", "")}


def is_claimed(job: Job) -> bool:
    """Whether a process trains the job at this moment."""
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.folder / "claim", timeout=0):
            return False
    except Timeout:
        return True
