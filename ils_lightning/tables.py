"""Tables, each written in one place: for the terminal, as many columns as there is room for; in Markdown; as CSV."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

RowType = TypeVar("RowType")


class Column(NamedTuple, Generic[RowType]):
    """A heading, what stands below it, and how soon it goes where room is short: the highest number first."""

    heading: str
    text: Callable[[RowType], str]
    rank: int


def on_screen(title: str = "", note: str = "") -> Table:
    """Returns a table without columns yet, in the look of all tables: its title above, a note below."""
    return Table(box=box.SIMPLE, title=escape(title) or None, caption=escape(note) or None, title_justify="left")


def markdown(headings: Iterable[str], lines: Iterable[Iterable[str]], words: int = 1) -> str:
    r"""Returns a table in Markdown; its first columns, as many as `words`, are not numbers.

    Example:
        >>> print(markdown(["name", "bias"], [["a|b <img>", "0.1"]]), end="")
        | name | bias |
        |---|---:|
        | a\|b &lt;img> | 0.1 |
    """
    head = list(headings)
    written = [_line(map(_in_markdown, head)), f"|{'---|' * words}{'---:|' * (len(head) - words)}"]
    return "\n".join([*written, *(_line(map(_in_markdown, line)) for line in lines)]) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _in_markdown(text: str) -> str:
    """A text for a cell: Markdown would read HTML in it."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def comma_separated(lines: Sequence[Mapping[str, Any]]) -> str:
    r"""Returns lines as CSV; their columns are those of the first.

    Example:
        >>> comma_separated([{"name": "=1+1", "bias": 0.1}])
        "name,bias\r\n'=1+1,0.1\r\n"
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(lines[0]))
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in line.items()} for line in lines)
    return text.getvalue()


def _inert(value: object) -> object:
    """A text that a spreadsheet would take for a formula, marked as text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def in_lines(name: str, widest: int) -> str:
    r"""Returns a long name on several lines, divided where one of its words begins, if it has several.

    Example:
        >>> in_lines("DecoupledStraightThrough", 20)
        'DecoupledStraight\n    Through'
    """
    lines = []
    while len(name) > widest:
        starts = [place for place in range(5, widest) if name[place].isupper() or name[place - 1] == " "]
        if not starts:
            break
        lines.append(name[: starts[-1]])
        name = f"    {name[starts[-1] :]}"
    return "\n".join([*lines, name])


def fitted(
    columns: Sequence[Column[RowType]],
    table: Callable[[list[Column[RowType]]], Table],
    console: Console,
    least: int,
    whole: str,
) -> Table:
    """Returns the table of as many columns as the console has room for, `least` at least.

    Below it stand the headings of those that are left out, and the file that is the `whole` table.
    """
    kept = list(columns)
    wide = console.options.update(max_width=10_000)
    while len(kept) > least and console.measure(table(kept), options=wide).maximum > console.width:
        kept.remove(max(kept, key=lambda column: column.rank))
    found, left_out = table(kept), [column.heading for column in columns if column not in kept]
    if left_out:
        found.caption = f"no room here for: {', '.join(left_out)}; all columns are in {whole}"
        found.caption_justify = "left"
    return found
