"""Files that are there complete or not at all: written beside their place, then put into it."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yields a path in the same folder to write to, which then takes the place of `target`.

    Whatever goes wrong, or whenever the process is killed, `target` keeps its old content.

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
    partial = target.with_name(f".{target.name}.{uuid4().hex[:8]}.partial")
    try:
        yield partial
        _to_disk(partial)
        partial.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        partial.unlink(missing_ok=True)


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
