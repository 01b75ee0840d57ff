"""The file that Optuna keeps studies in, made to stand kills and full disks."""

import os
from pathlib import Path
from typing import Any, cast

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


class Lock:
    """A lock that the operating system drops when its process dies; Optuna's own is waited for half a minute then.

    Whoever takes it cuts off a last line that was not written to its end: the file could not be read again with it.
    """

    def __init__(self, journal: Path) -> None:
        self._journal, self._lock = journal, FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        content = self._journal.read_bytes()
        if content and not content.endswith(b"\n"):
            os.truncate(self._journal, content.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._lock.release()


def storage(folder: Path) -> JournalStorage:
    """Returns the storage of all studies of a comparison, for any number of processes."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / "journal.log"
    return JournalStorage(JournalFileBackend(str(journal), cast(Any, Lock(journal))))
