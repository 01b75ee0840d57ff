"""Errors that more than one part knows, and that need no torch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


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
    """

    def __init__(self, base: Any, error: BaseException) -> None:
        super().__init__(f"{getattr(base, '__name__', base)}: {error}")
        self.base = base


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
