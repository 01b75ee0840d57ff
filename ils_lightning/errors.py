"""Errors that more than one part knows, and the words to tell them in; nothing here needs torch."""

import errno
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

_TOO_LARGE = r"allocate|out of memory|[Ss]torage size|overflow|Overflow when unpacking"
_LONGEST = 900  # letters of a message
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)
_NO_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)


class Refusal(ValueError):  # noqa: N818 (the word that its readers meet)
    """What was asked for is at fault: a setting, a file, a loss, a shape.

    The command line prints it as one line with exit status 2. Every other error is a defect, and keeps its traceback.

    Example:
        >>> raise Refusal("samples must be at least 1; given 0")
        Traceback (most recent call last):
        ...
        ils_lightning.errors.Refusal: samples must be at least 1; given 0
    """


class DescriptionError(Refusal):
    """A description of which no object can be made.

    Attributes:
        base: the type that was asked for.
        report: what the parser says, or what the object refused.
    """

    def __init__(self, base: Any, report: str, line: str) -> None:
        super().__init__(line)
        self.base, self.report = base, report


Told = Mapping[type[BaseException], Callable[[Any], str | None]]
"""What to say of errors of each type; None of one that is a defect."""


@contextmanager
def refusing(told: Told) -> Iterator[None]:
    """Turns errors of these types into refusals in the words that stand by them; all others pass.

    Example:
        >>> with refusing({KeyError: lambda error: f"there is no {error}"}):
        ...     {}["x"]
        Traceback (most recent call last):
        ...
        ils_lightning.errors.Refusal: there is no 'x'
    """
    try:
        yield
    except Exception as error:
        found = cause(error)
        said = (words(found) for kind, words in told.items() if isinstance(found, kind))
        line = next((line for line in said if line is not None), None)
        if line is None:
            raise
        raise Refusal(line) from error


def cause(error: BaseException) -> BaseException:
    """Returns the error that the parser met where it tried every type of a union and reports that none will do."""
    while type(error) is ValueError and error.__cause__ is not None:
        error = error.__cause__
    return error


def one_line(text: str) -> str:
    r"""Returns the text on one line that a terminal can show, without its end where that is very long.

    Example:
        >>> one_line("a\n  b\x07")
        'a b\\x07'
    """
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split()))
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]} ..."


def is_of_the_disk(error: BaseException) -> bool:
    """Whether a full or failing disk, a limit, missing permissions or a path that cannot be caused the error."""
    return isinstance(error, OSError) and error.errno in (*_FULL, *_NO_PLACE)


def is_of_the_place(error: BaseException) -> bool:
    """Whether only one path is at fault, as where a folder has the name of a file."""
    return isinstance(error, OSError) and error.errno in _NO_PLACE


def of_the_disk(error: OSError) -> str | None:
    """Says what could not be read or written, if the disk is at fault."""
    if not is_of_the_disk(error):
        return None
    name = f" {error.filename}" if error.filename else ""
    return f"cannot read or write{name}: {error.strerror}. What was saved before stays"


def is_of_memory(error: BaseException) -> bool:
    """Whether sizes that no machine has room for caused the error."""
    return isinstance(error, MemoryError | OverflowError) or (
        isinstance(error, RuntimeError | TypeError) and re.search(_TOO_LARGE, str(error)) is not None
    )


def of_memory(error: BaseException) -> str | None:
    """Says so if there is not enough memory."""
    first, *_ = str(error).strip().split("\n")
    return f"not enough memory: {first}" if is_of_memory(error) else None


def require_at_least(least: float, whose: str, **given: float) -> None:
    """Refuses numbers that are below `least`, NaN or infinite, and names those alone.

    Example:
        >>> require_at_least(1, "Exact", limit=0, chunk=5)
        Traceback (most recent call last):
        ...
        ils_lightning.errors.Refusal: Exact: limit must be at least 1; given 0
    """
    wrong = {name: value for name, value in given.items() if not least <= value < float("inf")}
    if wrong:
        finite = "" if float("inf") not in wrong.values() else " and finite"
        values = _and(str(value) for value in wrong.values())
        raise Refusal(f"{whose}: {_and(wrong)} must be at least {least}{finite}; given {values}")


def _and(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


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


def are(count: int, one: str, many: str) -> str:
    """Returns so many things with their verb.

    Example:
        >>> are(1, "batch", "batches"), are(1200, "batch", "batches")
        ('1 batch is', '1,200 batches are')
    """
    return f"{count:,} {one} is" if count == 1 else f"{count:,} {many} are"
