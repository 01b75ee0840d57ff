"""The table as it is printed: the columns that matter most, as many as the terminal has room for."""

from functools import partial
from itertools import groupby

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ils_lightning.compare.report.table import Row, cell
from ils_lightning.tables import Column, fitted, in_lines, on_screen

_WIDEST = 30  # letters of a name in a line: a long one leaves room for numbers


_PLATEAU = [
    Column("last", lambda row: cell(row.last), 3),
    Column("plateau", lambda row: _ranked(row, row.plateau), 0),
    Column("+-", lambda row: cell((row.high - row.low) / 2), 1),
    Column("bias floor", lambda row: cell(row.floor), 2),
    Column("steps to 2x", lambda row: _steps(row), 4),
]
_MEASURED = [
    Column("measured", lambda row: _ranked(row, row.measured), 0),
    Column("s.e.", lambda row: cell(row.standard_error), 1),
    Column("plateau", lambda row: cell(row.plateau), 7),
]
_SHARED = [
    Column("difference", lambda row: cell(row.difference), 2),
    Column("its s.e.", lambda row: cell(row.difference_error), 3),
    Column("n", lambda row: str(row.pairs or ""), 8),
    Column("f evaluations", lambda row: cell(row.evaluations), 6),
    Column("at equal f ev.", lambda row: cell(row.at_equal_evaluations), 9),
    Column("seconds", lambda row: cell(row.seconds), 4),
    Column("at equal s", lambda row: cell(row.at_equal_seconds), 10),
    Column("tuned", lambda row: row.tuned, 5),
]


def show(rows: list[Row], console: Console) -> None:
    """Prints the table, and below it what does not fit into cells: references, budgets and failures."""
    console.print(fitted(columns_of(rows), partial(_table, rows), console, least=2, whole="table.md"))
    for line in notes(rows):
        console.print(line, highlight=False, markup=False)


def columns_of(rows: list[Row]) -> list[Column]:
    """Returns the columns that say something."""
    columns = [Column("run", _name, -1), *(_MEASURED if rows[0].measure else _PLATEAU), *_SHARED]
    return [column for column in columns if any(column.text(row) for row in rows)]


def sections(rows: list[Row]) -> list[list[Row]]:
    """Returns the rows of each setting, where a measure ranks; else all together."""
    return [list(section) for _, section in groupby(rows, key=lambda row: row.setting if row.measure else "")]


def notes(rows: list[Row]) -> list[str]:
    """Returns a sentence for each setting and for each failure."""
    lines = []
    for row in {row.setting: row for row in rows}.values():
        head = f"{row.setting}: " if row.setting else ""
        if row.reference:
            lines.append(f"{head}differences are to {row.reference}, paired by seed and trial")
        if row.evaluation_budget == row.evaluation_budget:
            lines.append(
                f"{head}equal budgets are {row.evaluation_budget:,.0f} evaluations of f and {row.second_budget:.3g} s"
            )
    return lines + [f"{_name(row)} failed: {row.failed}" for row in rows if row.failed]


def _table(rows: list[Row], columns: list[Column]) -> Table:
    """The rows below each other; ranked by a measure, those of a setting stand below its name."""
    title = ", ".join(dict.fromkeys(row.measure or row.tracked for row in rows if row.seeds))
    table = on_screen(title)
    for number, column in enumerate(columns):
        left, widest = column.heading in ("run", "tuned"), None if number else _WIDEST
        justify = "left" if left else "right"
        table.add_column(column.heading, justify=justify, no_wrap=number > 0, overflow="fold", max_width=widest)
    parts = sections(rows)
    several = len(parts) > 1
    for section in parts:
        if several:
            table.add_row(escape(section[0].setting), style="bold")
        for row in section:
            name = in_lines(f"  {row.run}" if several else _name(row), _WIDEST)
            texts = [name, *(column.text(row) for column in columns[1:])]
            table.add_row(*map(escape, texts), end_section=row is section[-1])
    return table


def _name(row: Row) -> str:
    return f"{row.run} {row.setting}".strip()


def _ranked(row: Row, value: float) -> str:
    return cell(value) if row.seeds else "failed"


def _steps(row: Row) -> str:
    if not row.seeds:
        return ""
    return {-1: "never", 0: "-"}.get(row.steps_to_twice_plateau, f"{row.steps_to_twice_plateau:,}")
