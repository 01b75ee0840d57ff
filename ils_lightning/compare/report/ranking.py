"""The ranking as a figure: a panel for each setting, a dot with its standard error for each run."""

from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ils_lightning import plots
from ils_lightning.compare.grid.spec import Comparison
from ils_lightning.compare.report.panels import panels, titled
from ils_lightning.compare.report.table import Row, cell
from ils_lightning.looks import Look, looks, ours


def draw(comparison: Comparison, rows: list[Row], narrow: bool = False) -> Figure:
    """Draws the measure of every run that finished, best on top; one panel below the other for a narrow page."""
    shown = [row for row in rows if row.seeds]
    settings = list(dict.fromkeys(row.setting for row in shown))
    look = looks(dict.fromkeys(row.run for row in shown))
    longest = max(sum(row.setting == setting for row in shown) for setting in settings)
    with plots.style():
        width = max(4.6, 7 / len(settings))
        figure, grid = panels(width, [0.22 * longest + 0.8], len(settings), narrow, rest=(0, 0.6))
        far = False
        for axes, setting in zip(grid[0], settings, strict=True):
            far |= _panel(axes, [row for row in shown if row.setting == setting], look)
            axes.set(title=setting, xlabel=comparison.measure_label or comparison.measure)
        titled(figure, comparison.title)
        family = "; star, plus or cross: the ILS family" if any(map(ours, look)) else ""
        told = f"mark: mean over seeds, less is better; bar: its standard error{family}"
        figure.supxlabel(told + ("\narrow: beyond the axis, its mean beside it" if far else ""), fontsize=8)
    return figure


def _panel(axes: Axes, rows: list[Row], look: dict[str, Look]) -> bool:
    """Draws the runs of a setting, and returns whether one is beyond the axis."""
    errors = [row.standard_error if row.standard_error == row.standard_error else 0 for row in rows]
    places, edge = range(len(rows)), _edge([row.measured for row in rows])
    for place, row, error in zip(places, rows, errors, strict=True):
        colour, mark, _ = look[row.run]
        size = 8 if ours(row.run) else 4.5
        if not row.measured > edge:
            axes.errorbar(row.measured, place, xerr=error, fmt=mark, color=colour, markersize=size, capsize=2)
        else:  # without its bar, which would reach over the others
            axes.plot(edge, place, ">", color=colour, markersize=5)
            axes.annotate(
                cell(row.measured), (edge, place), (-6, 0), textcoords="offset points", ha="right", va="center", size=8
            )
    axes.set_yticks(list(places), [f"{row.run} *" if row.failed else row.run for row in rows], fontsize=8)
    far = any(row.measured > edge for row in rows)  # then a bar may leave the axis, or the arrows would stand inside
    end = edge if far else max(row.measured + error for row, error in zip(rows, errors, strict=True))
    axes.set_xlim(right=end + 0.04 * (end - rows[0].measured))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.invert_yaxis()
    return far


def _edge(values: list[float]) -> float:
    """Where the axis ends: what is far worse than the middle would press all others into one column."""
    best, middle, worst = min(values), median(values), max(values)
    return min(worst, best + 8 * (middle - best)) if middle > best else worst
