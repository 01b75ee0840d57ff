"""Errors that more than one part knows, and that need no torch."""

from typing import Any


class DescriptionError(ValueError):
    """A description of which no object can be made.

    Attributes:
        base: the type that was asked for.
    """

    def __init__(self, base: Any, error: BaseException) -> None:
        super().__init__(f"{getattr(base, '__name__', base)}: {error}")
        self.base = base
