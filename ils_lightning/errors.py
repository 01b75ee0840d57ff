"""Errors that more than one part knows, and that need no torch."""

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
