"""A parser that says in one line what is wrong with the words it is given."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from jsonargparse import ArgumentParser

from ils_lightning.cli.errors import fail
from ils_lightning.messages import explain


class OneLine(ArgumentParser):
    """A parser whose errors are one line: `auto_cli(..., parser_class=OneLine)`.

    Attributes:
        roots: types of the top-level keys, where they are not in the signature of a class.
    """

    roots: ClassVar[Mapping[str, Any]] = {}

    def format_help(self) -> str:
        """Returns the help, in which types have their bare names."""
        return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", super().format_help())

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # one of the parser's own trials
            super().error(message, ex)
        parser: Any = getattr(ex, "subcommand_parser", None) or self
        fail(explain(message, parser.get_defaults(skip_validation=True).keys(), self.roots))
