"""The table of all estimators, generated from the classes: what each declares, its options and its paper."""

import inspect
import sys
from dataclasses import astuple, dataclass, fields
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ils_lightning import estimators
from ils_lightning.estimators.base import Estimator, Pullback, Sampler

LEGEND = (
    "S: samples; K: categories; L: latents. Exact for: the losses f for which the expectation is the gradient, at the "
    "default options. Wrappers are what the estimator inside them is. Vimco, SparsemaxMarginal, EntmaxMarginal and "
    "TopKSubset of more than one category aim at objectives of their own; what is said here is of those."
)
_WIDE = 160
_KINDS = ("pathwise", "score function", "finite difference", "exact", "marginal", "wrapper")
_TITLES = {
    "categories": "K",
    "exact_for": "exact for",
    "evaluations": "f evaluations",
    "needs_gradient": "needs gradient",
}


@dataclass(frozen=True)
class Row:
    """One estimator as text; the fields are the columns."""

    name: str
    kind: str
    categories: str
    unbiased: str
    exact_for: str
    evaluations: str
    needs_gradient: str
    options: str
    paper: str


HEADINGS = [_TITLES.get(field.name, field.name) for field in fields(Row)]


def classes() -> list[type[Estimator]]:
    """Returns the public estimators, ordered by kind and name."""
    public = [getattr(estimators, name) for name in estimators.__all__]
    found = [c for c in public if inspect.isclass(c) and issubclass(c, Estimator)]
    concrete = [c for c in found if c not in (Estimator, Sampler, Pullback)]
    return sorted(concrete, key=lambda c: (_KINDS.index(c.kind), c.__name__.lower()))


def rows() -> list[Row]:
    """Returns one row for each public estimator."""
    return [row(c) for c in classes()]


def row(estimator: type[Estimator]) -> Row:
    """Returns the facts of one class, at its default options."""
    wrapper = estimator.kind == "wrapper"
    facts = estimator if wrapper else estimator()
    return Row(
        name=estimator.__name__,
        kind=estimator.kind,
        categories="2" if facts.binary else "any",
        unbiased="-" if wrapper else _yes(facts.unbiased),
        exact_for="-" if wrapper else facts.exact_for,
        evaluations="S * its own" if wrapper else facts.cost,
        needs_gradient="-" if wrapper else _yes(facts.needs_gradient),
        options=_options(estimator),
        paper=estimator.source or "-",
    )


def markdown() -> str:
    """Returns the table in Markdown with its legend: the README's table.

    Example:
        >>> print(markdown().splitlines()[0])
        | name | kind | K | unbiased | exact for | f evaluations | needs gradient | options | paper |
    """
    lines = [HEADINGS, ["---"] * len(HEADINGS), *[_cells(r) for r in rows()]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{LEGEND}\n"


def rich_table(width: int) -> Table:
    """Returns the table for a terminal `width` columns wide; a narrow one gets the facts without options and paper."""
    columns = len(HEADINGS) if width >= _WIDE else HEADINGS.index("options")
    table = Table(caption=LEGEND, box=SIMPLE_HEAD)
    for heading in HEADINGS[:columns]:
        table.add_column(heading, no_wrap=heading in ("name", "kind"), overflow="fold")
    for r in rows():
        table.add_row(*astuple(r)[:columns])
    return table


def show(form: Literal["terminal", "markdown"] = "terminal") -> None:
    """Prints the table of all estimators.

    Args:
        form: a table for the terminal, or Markdown as in the README.
    """
    if form == "markdown":
        print(markdown(), end="")
        return
    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    console.print(rich_table(console.width))


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


def _options(estimator: type[Estimator]) -> str:
    """Returns the constructor's arguments with their defaults, in their order."""
    parameters = inspect.signature(estimator).parameters.values()
    return ", ".join(p.name if p.default is p.empty else f"{p.name} = {_text(p.default)}" for p in parameters) or "-"


def _text(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


def _cells(r: Row) -> list[str]:
    """Returns a row's cells for Markdown: names as code, bars and stars as they are."""
    name, *rest = (text.replace("|", "\\|").replace("*", "\\*") for text in astuple(r))
    return [f"`{name}`", *rest]
