"""A part of the benchmark: rows of plain data, and which of them a table shows."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ils_lightning import report_page, tables

Row = dict[str, Any]
Advance = Callable[[str], None]
"""Told what has been measured just now."""


@dataclass
class Section:
    """Rows measured together.

    Args:
        name: short, for files.
        title: what the numbers are.
        rows: plain data.
        pivot: names of what the rows, the columns and the cells of the table are; else every key is a column.
        note: what to know beside it.
    """

    name: str
    title: str
    rows: list[Row]
    pivot: tuple[str, str, str] | None = None
    note: str = ""

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Returns the headings and the lines of the table, as text."""
        if self.pivot is None:
            headings = list(dict.fromkeys(key for row in self.rows for key in row))
            return headings, [[cell(row.get(heading)) for heading in headings] for row in self.rows]
        down, across, value = self.pivot
        columns = list(dict.fromkeys(str(row[across]) for row in self.rows))
        names = list(dict.fromkeys(str(row[down]) for row in self.rows))
        cells = {(str(row[down]), str(row[across])): cell(row.get(value)) for row in self.rows}
        return [down, *columns], [[name, *(cells.get((name, column), "") for column in columns)] for name in names]

    def _repr_html_(self) -> str:
        title, note = (f"<p>{html.escape(text)}</p>" for text in (self.title, self.note))
        return title + report_page.table(*self.table()) + (note if self.note else "")

    def markdown(self) -> str:
        """Returns the table in Markdown, its title above."""
        return f"{self.title}\n\n{tables.markdown(*self.table())}" + (f"\n{self.note}\n" if self.note else "")


def cell(value: Any) -> str:
    """Returns a value as text: yes or no, whole numbers as they are, others with three digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str("" if value is None else value)
