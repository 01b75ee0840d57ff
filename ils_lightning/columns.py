"""Tables of rows for the terminal: the columns that matter most, as many as there is room for."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from rich.console import Console
from rich.table import Table

RowType = TypeVar("RowType")


class Column(NamedTuple, Generic[RowType]):
    """A heading, what stands below it, and how soon it goes where room is short: the highest number first."""

    heading: str
    text: Callable[[RowType], str]
    rank: int


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
