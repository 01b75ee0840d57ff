"""Files that are there complete or not at all: written beside their place, then put into it."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

try:
    import fcntl
except ImportError:  # Windows: what a killed process leaves is not told from what another one writes
    fcntl = None


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yields a path in the same folder to write to, which then takes the place of `target`.

    Whatever goes wrong, or whenever the process is killed, `target` keeps its old content. What killed processes left
    half-written in the folder is removed.

    Raises:
        OSError: where the file cannot be written; it names `target`.

    Example:
        >>> from tempfile import mkdtemp
        >>> target = Path(mkdtemp()) / "table.csv"
        >>> with replacing(target) as partial:
        ...     _ = partial.write_text("complete")
        >>> target.read_text()
        'complete'
    """
    remove_abandoned(target.parent)
    partial = target.with_name(f".{target.name}.{uuid4().hex[:8]}.partial")
    try:
        with _held(partial):
            yield partial
            _to_disk(partial)
            partial.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        with suppress(OSError):  # a disk that cannot be written to refuses this as well, in words about another file
            partial.unlink()


def remove_abandoned(folder: Path) -> None:
    """Removes half-written files whose process is gone: they are locked as long as it writes."""
    if fcntl is None:
        return
    for partial in folder.glob(f".*.{'[0-9a-f]' * 8}.partial"):
        with suppress(OSError):  # locked by another process, or just put into place
            file = os.open(partial, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                partial.unlink()
            finally:
                os.close(file)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Makes a file and holds a lock on it, which the operating system drops with the process."""
    if fcntl is None:
        yield
        return
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):  # file systems without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:
            yield
            return
    finally:
        os.close(file)
    with _held(path):  # another process took it for abandoned before it was locked
        yield


def save(value: Any, target: Path) -> None:
    """Writes what `torch.save` makes of `value`."""
    import torch  # late: texts are written by verbs that answer at once

    buffer = io.BytesIO()  # torch's own writer to files turns a full disk into an error of another kind
    torch.save(value, buffer)
    with replacing(target) as partial:
        partial.write_bytes(buffer.getbuffer())


def write_text(text: str, target: Path) -> None:
    """Writes a text file."""
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def _to_disk(path: Path) -> None:
    """Waits until the content is on the disk, lest a power cut leave a name without it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
