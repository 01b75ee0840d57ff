"""The table of all estimators, generated from the classes: what each declares, its options and its paper."""

import inspect
import io
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ils_lightning import estimators, tables
from ils_lightning.estimators.base import Estimator
from ils_lightning.estimators.sampler import Pullback, Sampler

LEGEND = (
    "S: samples; K: categories; L: latents. Exact for: the losses f for which the expectation is the gradient, at the "
    "default options. Wrappers are what the estimator inside them is. Vimco, SparsemaxMarginal, EntmaxMarginal and "
    "TopKSubset of more than one category aim at objectives of their own; what is said here is of those."
)
_BETWEEN = 3  # columns between two of the table
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
    """Returns the table in Markdown with its legend.

    Example:
        >>> print(markdown().splitlines()[0])
        | name | kind | K | unbiased | exact for | f evaluations | needs gradient | options | paper |
    """
    return f"{tables.markdown(HEADINGS, map(_cells, rows()), words=len(HEADINGS))}\n{LEGEND}\n"


def names() -> str:
    """Returns the names of all estimators in Markdown: a line for each kind, each name with a link to its file.

    The README holds these lines.

    Example:
        >>> print(names().splitlines()[3])
        - **exact**: [`Exact`](ils_lightning/estimators/exact.py)
    """
    lines = []
    for kind in _KINDS:
        of_kind = [c for c in classes() if c.kind == kind]
        links = [f"[`{c.__name__}`]({c.__module__.replace('.', '/')}.py)" for c in of_kind]
        lines.append(f"- **{kind}**: {', '.join(links)}")
    return "\n".join(lines) + "\n"


def text(width: int) -> str:
    """Returns the table for a terminal `width` columns wide.

    Where all columns fit without breaking a word there is a line for each estimator, else an entry of a few lines.
    """
    widths = _widths(width)
    lines = _lines(widths, width) if widths else _entries(width)
    return "\n".join([*lines, textwrap.fill(LEGEND, width), ""])


def _lines(widths: list[int], width: int) -> Iterator[str]:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading, one in zip(HEADINGS, widths, strict=True):
        table.add_column(heading, width=one)
    for one in rows():
        table.add_row(*astuple(one))
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(table)
    for line in console.file.getvalue().splitlines():  # pyright: ignore[reportAttributeAccessIssue]
        yield line.rstrip()


def _widths(width: int) -> list[int]:
    """Widths of the columns, options and papers having what the others leave; nothing where that breaks a word."""
    columns = list(zip(HEADINGS, *[astuple(one) for one in rows()], strict=True))
    *fixed, options, papers = columns
    left = width - sum(max(map(len, column)) for column in fixed) - _BETWEEN * len(fixed) - _BETWEEN
    of_papers = min(max(map(len, papers)), left // 2, left - _longest_word(options))
    if of_papers < _longest_word(papers):
        return []
    return [*(max(map(len, column)) for column in fixed), left - of_papers, of_papers]


def _longest_word(column: Sequence[str]) -> int:
    return max(len(word) for cell in column for word in cell.split())


def _entries(width: int) -> Iterator[str]:
    """Lines of an entry for each estimator, under headings of their kinds."""
    kind = ""
    for one in rows():
        if one.kind != kind:
            kind = one.kind
            yield f"\n{kind}"
        yield f"  {one.name}"
        for part in (facts(one), f"options: {one.options}", f"paper: {one.paper}"):
            if not part.endswith(": -"):
                yield textwrap.fill(
                    part, width, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False
                )
    yield ""


def facts(one: Row) -> str:
    """Returns what a class declares in a sentence.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> facts(row(ReinMax))
        'any number of categories; biased, exact for quadratic f; f evaluations: 1; f must be differentiable in z'
    """
    number = "2 categories only" if one.categories == "2" else "any number of categories"
    if one.kind == "wrapper":
        return f"{number}; f evaluations: {one.evaluations}; all else as the estimator inside"
    for_which = {"all": "unbiased", "none": "biased"}.get(one.exact_for, f"biased, exact for {one.exact_for} f")
    bias = "unbiased" if one.unbiased == "yes" else for_which
    slope = "f must be differentiable in z" if one.needs_gradient == "yes" else "f may be any function"
    return f"{number}; {bias}; f evaluations: {one.evaluations}; {slope}"


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


def _options(estimator: type[Estimator]) -> str:
    """Returns the constructor's arguments with their defaults, in their order."""
    parameters = inspect.signature(estimator).parameters.values()
    return ", ".join(p.name if p.default is p.empty else f"{p.name} = {_text(p.default)}" for p in parameters) or "-"


def _text(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


def _cells(r: Row) -> list[str]:
    """Returns a row's cells for Markdown: names as code, stars as they are."""
    name, *rest = (text.replace("*", "\\*") for text in astuple(r))
    return [f"`{name}`", *rest]
