"""One line for a mistyped word: what is wrong, what is allowed, what was probably meant."""

import errno
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from types import FrameType
from typing import NoReturn

from ils_lightning.errors import Refusal, Told, refusing

PROGRAM = "python -m ils_lightning"
_TOO_LARGE = r"allocate|out of memory|[Ss]torage size|overflow"
_LONGEST = 900  # letters of a message
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)
_NO_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)


def fail(message: str) -> NoReturn:
    """Prints `message` as one line on the standard error and exits with status 2."""
    sys.stderr.write(f"error: {one_line(message)}\n")
    raise SystemExit(2)


def one_line(text: str) -> str:
    r"""Returns the text on one line that a terminal can show, without its end where that is very long.

    Example:
        >>> one_line("a\n  b\x07")
        'a b\\x07'
    """
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split()))
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]} ..."


@contextmanager
def told_in_one_line(told: Told, before: str = "") -> Iterator[None]:
    """Ends the process with one line, that starts with `before`, for refusals and the errors that the table names."""
    try:
        with refusing({**told, OSError: of_the_disk, MemoryError: of_memory, OverflowError: of_memory}):
            yield
    except Refusal as refusal:
        fail(f"{before}{refusal}")


def is_of_the_disk(error: BaseException) -> bool:
    """Whether a full or failing disk, a limit, missing permissions or a path that cannot be caused the error."""
    return isinstance(error, OSError) and error.errno in (*_FULL, *_NO_PLACE)


def of_the_disk(error: OSError) -> str | None:
    """Says what could not be read or written, if the disk is at fault."""
    if not is_of_the_disk(error):
        return None
    name = f" {error.filename}" if error.filename else ""
    return f"cannot read or write{name}: {error.strerror}. What was saved before stays"


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


def is_of_memory(error: BaseException) -> bool:
    """Whether sizes that no machine has room for caused the error."""
    return isinstance(error, MemoryError | OverflowError) or (
        isinstance(error, RuntimeError) and re.search(_TOO_LARGE, str(error)) is not None
    )


def of_memory(error: BaseException) -> str | None:
    """Says so if there is not enough memory."""
    return f"not enough memory: {error}" if is_of_memory(error) else None


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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ", did you mean 'x'?" for the known word nearest to `word`, or nothing when none is near.

    Example:
        >>> did_you_mean("ISL", ["ILS", "ReinMax"])
        ", did you mean 'ILS'?"
        >>> did_you_mean("banana", ["ILS", "ReinMax"])
        ''
    """
    lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), lower, n=1, cutoff=0.55)
    return f", did you mean {lower[near[0]]!r}?" if near else ""


def listed(names: Iterable[str], word: str = "", most: int = 12) -> str:
    """Returns the names in a row; of many only those most like `word`, and how many others there are.

    Example:
        >>> listed(["a", "b", "c"]), listed(["aa", "ab", "zz"], "a", most=2)
        ('a, b, c', 'aa, ab and 1 more')
    """
    known = list(names)
    if len(known) <= most:
        return ", ".join(known)
    near = get_close_matches(word.lower(), lower := {name.lower(): name for name in known}, n=most, cutoff=0.0)
    return f"{', '.join(sorted(lower[name] for name in near))} and {len(known) - len(near)} more"
