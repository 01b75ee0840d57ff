"""An estimator's formula with its source, as Markdown, out of the docstrings."""

import html
import inspect
import re
import sys
from textwrap import indent
from typing import Any

from ils_lightning.describe import options
from ils_lightning.estimators import Estimator

_END = re.compile(r"^(Args|Attributes|Example|Examples|Raises|Returns|Note|Source):", re.MULTILINE)


def formulas(estimator: Estimator) -> str:
    """Returns a section for an estimator, and one for each kind of estimator inside it.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> print(formulas(ReinMax(temperature=1.1)).splitlines()[0])
        ### ReinMax
    """
    kinds = {type(one): one for one in reversed(list(estimator.modules())) if isinstance(one, Estimator)}
    return "\n\n".join(_section(one) for one in reversed(kinds.values()))


def _section(estimator: Estimator) -> str:
    kind = type(estimator)
    does = head(inspect.getdoc(kind) or "")
    does = does.split("\n\n")[0] if formula(kind) else does
    parts = [f"### {kind.__name__}", _prose(does), _prose(formula(kind)), _table(estimator)]
    parts += [f"Source: {estimator.source}."] if estimator.source else []
    return "\n\n".join(part for part in parts if part)


def formula(kind: type[Estimator]) -> str:
    """The head of the module's docstring, where the module is about this class: its file is named after it."""
    name = kind.__module__.rsplit(".", 1)[-1]
    if name.replace("_", "") != kind.__name__.lower():
        return ""
    text = head(sys.modules[kind.__module__].__doc__ or "")
    if "\n    " in text:
        return text
    first, *rest = text.split("\n\n")  # a docstring of nothing but formulas has no indentation
    return "\n\n".join([first, *(indent(part, "    ") if " = " in part else part for part in rest)])


def head(docstring: str) -> str:
    """What comes before the first section of a docstring."""
    return _END.split(docstring, maxsplit=1)[0].strip()


def _prose(text: str) -> str:
    """Markdown of a docstring: indented lines are code; in the others, signs mean themselves but between backticks."""
    lines = text.splitlines()
    return "\n".join(line if line.startswith("    ") else _escaped(line) for line in lines)


def _escaped(line: str) -> str:
    parts = line.split("`")
    return "`".join(part if odd % 2 else html.escape(part).replace("*", r"\*") for odd, part in enumerate(parts))


def _table(estimator: Estimator) -> str:
    """The options in use, defaults included."""
    found = {name: value for name, value in options(estimator).items() if value is not None}
    lines = [f"| {name} | {_prose(_name(value))} |" for name, value in found.items()]
    return "\n".join(["| option | value |", "|---|---|", *lines]) if lines else ""


def _name(value: Any) -> str:
    """A value as text; a class by its bare name, for an estimator inside has a section of its own."""
    return value["class_path"].rsplit(".", 1)[-1] if isinstance(value, dict) else str(value)
