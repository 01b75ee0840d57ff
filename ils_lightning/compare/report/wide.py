"""The ranking on a page: a row for each run, a column for each setting."""

import math

from ils_lightning import tables
from ils_lightning.compare.report.table import Row


def markdown(rows: list[Row]) -> str:
    """Returns `cells` in Markdown."""
    head, *lines = cells(rows)
    return tables.markdown(head, lines)


def cells(rows: list[Row]) -> list[list[str]]:
    """Returns `measured (difference +- its standard error)` of every run under every setting, bold where it is best.

    Runs are in the order of the first setting, which is from best to worst; those that have nothing there follow. The
    reference and runs without a partner have no difference; "failed" and blanks are told apart. The first line is that
    of the headings.
    """
    settings = list(dict.fromkeys(row.setting for row in rows))
    best = {setting: min((row.ranked for row in rows if _finished(row, setting)), default=0.0) for setting in settings}
    found = {(row.run, row.setting): _cell(row, best[row.setting]) for row in rows}
    headings = [setting or rows[0].measure or "plateau" for setting in settings]
    lines = [["run", *headings]]
    for run in dict.fromkeys(row.run for row in rows):
        lines.append([run, *(found.get((run, setting), "") for setting in settings)])
    return lines


def _finished(row: Row, setting: str) -> bool:
    return row.setting == setting and row.seeds > 0 and not math.isnan(row.ranked)


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _cell(row: Row, best: float) -> str:
    if not _finished(row, row.setting):
        return "failed"
    value = _number(row.ranked)
    value = f"**{value}**" if value == _number(best) else value
    if math.isnan(row.difference):
        return value
    error = "" if math.isnan(row.difference_error) else f" +- {row.difference_error:.2g}"
    return f"{value} ({row.difference:+.2g}{error})"
