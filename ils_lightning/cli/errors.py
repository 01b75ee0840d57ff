"""How a command ends that cannot go on: in one line, on purpose."""

import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from ils_lightning.errors import Refusal, Told, is_of_the_disk, of_memory, of_the_disk, one_line, refusing

PROGRAM = "python -m ils_lightning"


def fail(message: str) -> NoReturn:
    """Prints `message` as one line on the standard error and exits with status 2."""
    sys.stderr.write(f"error: {one_line(message)}\n")
    raise SystemExit(2)


@contextmanager
def told_in_one_line(told: Told, before: str = "") -> Iterator[None]:
    """Ends the process with one line, that starts with `before`, for refusals and the errors that the table names."""
    try:
        with refusing({**told, OSError: of_the_disk, MemoryError: of_memory, OverflowError: of_memory}):
            yield
    except Refusal as refusal:
        fail(f"{before}{refusal}")


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Leaves unreported what a thread meets on the disk: loggers raise it again where their next entry is written."""
    report = threading.excepthook

    def report_others(found: threading.ExceptHookArgs) -> None:
        if not (found.exc_value and is_of_the_disk(found.exc_value)):
            report(found)

    threading.excepthook = report_others
    try:
        yield
    finally:
        threading.excepthook = report


def of_a_callback(error: BaseException) -> str | None:
    """Returns one line where a callback of Lightning's found that it cannot work; None for any other error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    owners = [type(frame.f_locals.get("self")) for frame in frames]
    places = [n for n, owner in enumerate(owners) if owner.__module__.startswith("lightning.pytorch.callbacks.")]
    if not places or any(_package(frame) not in ("lightning", "torch") for frame in frames[places[-1] :]):
        return None
    return f"--trainer.callbacks: {owners[places[-1]].__name__} cannot work here: {error}"


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
