"""The file that Optuna keeps studies in, made to stand kills and full disks."""

import json
import os
from pathlib import Path
from typing import Any, cast

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from ils_lightning.errors import Refusal

_WAY_OUT = "put back a copy, or move the file away: the search then begins anew, and trainings that are kept count"


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

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def storage(folder: Path) -> JournalStorage:
    """Returns the storage of all studies of a comparison, for any number of processes.

    Raises:
        ValueError: when the file is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / "journal.log"
    lock = Lock(journal)
    backend = JournalFileBackend(str(journal), cast(Any, lock))
    with lock:
        _require_readable(journal)
    try:
        return JournalStorage(backend)
    except Exception as error:  # Optuna replays the file, and stumbles wherever what it says does not hold together
        raise Refusal(f"{journal} is damaged ({type(error).__name__}: {error}); {_WAY_OUT}") from None


def _require_readable(journal: Path) -> None:
    """Checks that each line is an operation of Optuna's."""
    for number, line in enumerate(journal.read_bytes().splitlines(), 1):
        try:
            operation = json.loads(line)
        except ValueError:
            operation = None
        if not isinstance(operation, dict) or "op_code" not in operation:
            raise Refusal(f"{journal} is damaged in line {number}; {_WAY_OUT}")
