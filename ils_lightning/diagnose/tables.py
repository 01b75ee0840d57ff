"""A report as a table for the terminal, as CSV and as JSON."""

import io
import json
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ils_lightning import tables
from ils_lightning.diagnose.rows import GradientReport, Row
from ils_lightning.errors import Refusal
from ils_lightning.tables import Column, fitted, in_lines, on_screen

_WIDEST, _NARROW = 38, 22
"""Letters of a name in a line, and those where it would leave no room for the cosine: a longer name goes on below."""
_COSINE = 5
"""The rank of the last column that has to have room."""
_MOST = 10_000
"""What is above says no more than that."""


def percent(value: float) -> str:
    """A share of one in per cent, of at most nine characters: two significant digits, between 0.01 and 10,000.

    Example:
        >>> percent(0.0), percent(0.01234), percent(0.995), percent(69.26), percent(3e6), percent(float("nan"))
        ('0 %', '1.2 %', '100 %', '6,900 %', '>10,000 %', '')
    """
    if value != value:
        return ""
    return "<0.01 %" if 0 < value < 1e-4 else f"{number(100 * value, 2)} %"


def number(value: float, digits: int = 3) -> str:
    """A number of so many significant digits, without an exponent from .001 to 10,000; nothing for NaN.

    Example:
        >>> number(100.2), number(1234.5), number(-0.01234), number(2.4e5), number(1.234e-13)
        ('100', '1,230', '-0.0123', '>10,000', '1.2e-13')
    """
    if value != value:
        return ""
    if value > _MOST:
        return f">{_MOST:,}" if value < float("inf") else "inf"
    return f"{float(f'{value:.{digits}g}'):,g}" if abs(value) >= 1e-3 or not value else f"{value:.2g}"


def between(low: float, high: float) -> str:
    """The ends of an interval of shares.

    Example:
        >>> between(0.1, 0.2), between(5e4, 6e4)
        ('10 to 20 %', '>10,000 %')
    """
    return "" if low != low else _ends(percent(low), percent(high)).replace(" % to ", " to ")


def size(count: int) -> str:
    """Bytes in a unit that leaves three digits.

    Example:
        >>> size(0), size(1500), size(2_000_000)
        ('', '1.5 kB', '2 MB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B" if count else ""


def _ends(low: str, high: str) -> str:
    return low if low == high and low.startswith(("<", ">")) else f"{low} to {high}"


COLUMNS: list[Column[Row]] = [
    Column("estimator", lambda row: row.name, 0),
    Column("error", lambda row: percent(row.error), 1),
    Column("scaled", lambda row: percent(row.scaled_error), 2),
    Column("bias", lambda row: percent(row.relative_bias), 3),
    Column("bias interval", lambda row: between(row.relative_bias_low, row.relative_bias_high), 6),
    Column("variance", lambda row: number(row.relative_variance), 4),
    Column("variance interval", lambda row: _numbers(row.relative_variance_low, row.relative_variance_high), 9),
    Column("cosine", lambda row: _cosine(row.cosine), _COSINE),
    Column("of one", lambda row: _cosine(row.cosine_of_one), 8),
    Column("SNR", lambda row: number(row.snr), 10),
    Column("value bias", lambda row: _signed(row), 11),
    Column("f evals", lambda row: str(row.evaluations), 7),
    Column("var x cost", lambda row: number(row.variance_times_cost), 12),
    Column("ms", lambda row: number(1000 * row.seconds), 14),
    Column("memory", lambda row: size(row.bytes), 13),
]


def _numbers(low: float, high: float) -> str:
    return "" if low != low else _ends(number(low), number(high))


def _cosine(value: float) -> str:
    return "" if value != value else f"{value:.3f}"


def _signed(row: Row) -> str:
    """The value bias where its interval leaves zero out."""
    found = not row.value_bias_low <= 0 <= row.value_bias_high
    return f"{row.value_bias:+.2g}" if found and row.value_bias == row.value_bias else "0"


def show(report: GradientReport, console: Console, whole: str = "report.csv") -> None:
    """Prints the table, as many columns as there is room for, what it was measured on, and what does not apply.

    `whole` is where the other columns are.
    """
    first = _table(report, _WIDEST, [column for column in COLUMNS if column.rank <= _COSINE])
    needed = console.measure(first, options=console.options.update(max_width=10_000)).maximum
    widest = _WIDEST if needed <= console.width else _NARROW
    console.print(fitted(COLUMNS, partial(_table, report, widest), console, least=3, whole=whole))
    for line in notes(report):
        console.print(line, highlight=False, markup=False)


def in_text(report: GradientReport, width: int = 80) -> str:
    """Returns what `show` prints of a report that is in no folder, in plain letters that every log file has."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_jupyter=False, force_terminal=False, color_system=None)
    show(report, console, whole="report.rows")
    lines = (line.rstrip() for line in text.getvalue().replace("\u2500", "-").splitlines())
    return "\n".join(lines).strip("\n")


def _table(report: GradientReport, widest: int, columns: list[Column[Row]]) -> Table:
    table = on_screen(report.title)
    table.add_column(columns[0].heading, overflow="fold", max_width=widest)
    for column in columns[1:]:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for row in report.applicable:
        name, *figures = (column.text(row) for column in columns)
        table.add_row(in_lines(name, widest), *figures)
    return table


def notes(report: GradientReport) -> list[str]:
    """Returns what the table was measured on, and a line for every reason why an estimator does not apply."""
    reasons: dict[str, list[str]] = {}
    for row in report.rows:
        if row.not_applicable:
            reasons.setdefault(_general(row), []).append(row.name)
    rows, latents = _many(report.batch, "row"), _many(report.latents, "latent")
    return [
        f"measured on {rows} of {latents} x {report.categories} categories, E f = {report.loss:.5g}, "
        f"seed {report.seed}; {report.truth}",
        f"error: root mean square distance to the gradient, relative to its length, of the average of the estimates "
        f"that {report.average:,} evaluations of f buy; scaled: that of the best multiple of the average",
        *report.remark.splitlines(),
        *(f"not applicable: {', '.join(names)}: {reason}" for reason, names in reasons.items()),
    ]


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _general(row: Row) -> str:
    """The reason without the estimator's own name, so that equal reasons meet."""
    text = row.not_applicable.removeprefix(f"{row.name.partition('(')[0]} ").removeprefix("is ")
    return text.split("; given")[0]


def comma_separated(report: GradientReport) -> str:
    """Returns the rows as CSV, without the cosine curves."""
    names = [one.name for one in fields(Row) if one.name != "cosines"]
    return tables.comma_separated([{name: getattr(row, name) for name in names} for row in report.rows])


def to_json(report: GradientReport) -> str:
    """Returns everything as JSON; numbers that are not finite are null."""
    return json.dumps(_plain(asdict(report)), indent=1)


def from_json(text: str) -> GradientReport:
    """Returns the report that `to_json` wrote."""
    data: dict[str, Any] = json.loads(text)
    rows: list[dict[str, Any]] = [
        {name: float("nan") if value is None else value for name, value in row.items()} for row in data["rows"]
    ]
    for row in rows:
        row["cosines"] = {int(n): value for n, value in row["cosines"].items()}
    return GradientReport(**{**data, "rows": [Row(**row) for row in rows]})


def read(folder: Path) -> GradientReport:
    """Returns the report kept in a folder: the last one written where it holds several, as version_N or itself.

    Raises:
        ValueError: when there is none, or it cannot be read.
    """
    own = folder / "report.json"
    kept = [path for path in (own, *folder.glob("version_*/report.json")) if path.is_file()]
    path = max(kept, key=lambda path: path.stat().st_mtime_ns, default=own)
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refusal(f"--beside needs folders of diagnose; {path} is no report that can be read: {error}") from None


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if (isinstance(value, float) and abs(value) in (float("inf"),)) or value != value else value
