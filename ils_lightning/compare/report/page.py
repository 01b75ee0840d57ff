"""The comparison as one HTML file that needs nothing else."""

import math

from matplotlib.figure import Figure

from ils_lightning import report_page
from ils_lightning.compare.grid.spec import Comparison
from ils_lightning.compare.report import screen, wide
from ils_lightning.compare.report.table import Row, cell

_WORDS = {
    "measured": "mean over seeds of the measure that ranks, lower being better; s.e.: its standard error",
    "plateau": "mean over the last fifth of the curve of the tracked quantity; last: its last value; +-: half of the "
    "plateau's 95 % bootstrap interval over seeds and trials",
    "bias floor": "where the published form is predicted to settle",
    "steps to 2x": "first optimiser step below twice the plateau; -: the curve begins there",
    "difference": "to the reference, paired by seed and trial; its s.e.: the standard error of that; n: pairs",
    "f evaluations": "of one training, all rows counted; at equal f ev.: the curve's value where the run with the "
    "fewest evaluations ends",
    "seconds": "of one training on one thread, without validation and test; at equal s: the curve's value where the "
    "run with the fewest seconds ends",
    "tuned": "chosen on seeds that are not reported",
}


def page(
    comparison: Comparison, rows: list[Row], figures: dict[str, tuple[Figure, Figure]], file: str, to_do: list[str]
) -> str:
    """Returns the page.

    Args:
        comparison: what was compared.
        rows: of the table.
        figures: by name, in their order, each for a wide page and a narrow one.
        file: the comparison file as it is written.
        to_do: lines on what is not trained yet.
    """
    columns, settings = screen.columns_of(rows), {row.setting for row in rows}
    head, *lines = wide.cells(rows) if comparison.measure and len(settings) > 1 else [[]]
    of = f", {rows[0].measure}" if comparison.measure else ""
    return report_page.page(
        comparison.title,
        report_page.lead(lead(rows)),
        report_page.heading(f"Ranking{of}") + report_page.table(head, lines) if lines else "",
        *(
            report_page.figure(drawn, f"{comparison.title}: {name}", narrow)
            for name, (drawn, narrow) in figures.items()
        ),
        report_page.heading("All measurements"),
        report_page.table([column.heading for column in columns], _lines(rows, columns)),
        report_page.notes([*_told(comparison), *screen.notes(rows), *to_do]),
        report_page.folded("comparison file", file),
        report_page.words({word: text for word, text in _WORDS.items() if _is_shown(word, columns)}),
    )


def lead(rows: list[Row]) -> str:
    """Returns which run came out best, by setting where every setting has several runs."""
    done = [row for row in rows if row.seeds and not math.isnan(row.ranked)]
    if not done:
        return "No run came to a result; the reasons are below the table."
    what = done[0].measure or f"plateau of {done[0].tracked}"
    groups = [[row for row in done if row.setting == name] for name in dict.fromkeys(row.setting for row in done)]
    if len(groups) == 1 or min(map(len, groups)) < 2:
        return f"Lowest {what}: {_best(done)}."
    return f"Lowest {what}: {'; '.join(f'{group[0].setting}: {_best(group)}' for group in groups)}."


def _best(rows: list[Row]) -> str:
    """The best run, and the next that is another."""
    ranked = sorted(rows, key=lambda row: row.ranked)
    others = [row for row in ranked if row.run != ranked[0].run]
    several = len({row.setting for row in rows}) > 1
    names = [f"{row.run} {row.setting}" if several else row.run for row in (ranked[0], *others[:1])]
    values = [f"{name} ({cell(row.ranked)})" for name, row in zip(names, (ranked[0], *others), strict=False)]
    apart = not others or _are_told_apart(ranked[0], others[0])
    return ("; best of the other runs: " if apart else "; not to be told from it by these seeds: ").join(values)


def _are_told_apart(one: Row, other: Row) -> bool:
    """Whether two runs differ by two standard errors: of the paired difference where one of them is the reference."""
    paired = next((row for row in (one, other) if {row.reference, row.run} == {one.run, other.run}), None)
    if paired is not None:
        return abs(paired.difference) > 2 * paired.difference_error
    return abs(one.ranked - other.ranked) > 2 * math.hypot(_error(one), _error(other))


def _error(row: Row) -> float:
    return row.standard_error if row.measure else (row.high - row.low) / 4


def _lines(rows: list[Row], columns: list[screen.Column]) -> list[list[str]]:
    """The table's rows; those of a setting stand below its name where a measure ranks several."""
    parts = screen.sections(rows)
    if len(parts) == 1:
        return [[column.text(row) for column in columns] for row in rows]
    found = []
    for part in parts:
        found.append([part[0].setting])
        found += [[row.run, *(column.text(row) for column in columns[1:])] for row in part]
    return found


def _told(comparison: Comparison) -> list[str]:
    """The seeds, and what was changed on the command line."""
    changed = ", ".join(f"{key}={value}" for key, value in comparison.override.items())
    seeds = f"seeds: {', '.join(map(str, comparison.seeds))}"
    return [seeds, f"changed for all runs: {changed}"] if changed else [seeds]


def _is_shown(word: str, columns: list[screen.Column]) -> bool:
    return any(column.heading.startswith(word) for column in columns)
