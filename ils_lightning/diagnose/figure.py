"""The report as a figure: bias against variance with cost as size, and cosine against the number averaged."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ils_lightning import plots
from ils_lightning.diagnose.advice import choices
from ils_lightning.diagnose.report import GradientReport, Row

_CURVES = 7
_GREY = "#aaaaaa"
_HIGHEST = 30.0
"""End of both axes: what is beyond is drawn there."""


def draw(reports: list[GradientReport]) -> Figure:
    """Draws a column of two panels for each report."""
    with plots.style():
        figure = Figure(figsize=(4.4 * len(reports) + 0.4, 8.4), layout="constrained")
        grid = figure.subplots(2, len(reports), squeeze=False)
        for (upper, lower), report in zip(grid.T, reports, strict=True):
            _plane(upper, report)
            _curves(lower, report)
            upper.set_title(report.title, fontsize=11)
        grid[0, 0].set_ylabel("noise of one estimate: root of the relative variance")
        grid[1, 0].set_ylabel("expected cosine with the gradient")
        figure.supxlabel("grey: other estimators; area: evaluations of f; at an edge: nothing, or beyond", fontsize=8)
    return figure


def shown(report: GradientReport) -> list[Row]:
    """The rows that get a colour, a number and a curve: the best among which advice chooses."""
    return choices(report)[:_CURVES]


def _floor(values: list[float]) -> float:
    """Where nothing is drawn: below the least value that is something."""
    return 0.6 * max(1e-4, min([value for value in values if value > 1e-4], default=1e-2))


def _plane(axes: Axes, report: GradientReport) -> None:
    """Each estimator at its bias and noise."""
    best = [row.name for row in shown(report)]
    rows = [row for row in report.applicable if row.relative_variance > 0 or row.name in best]
    left = _floor([row.relative_bias for row in rows])
    bottom = _floor([row.noise for row in rows])
    for row in reversed(rows):
        number = best.index(row.name) if row.name in best else None
        colour = _GREY if number is None else plots.COLOURS[number]
        x, y = (min(max(v, low), _HIGHEST) for v, low in ((row.relative_bias, left), (row.noise, bottom)))
        ends = [min(max(v, left), _HIGHEST) for v in (row.relative_bias_low, row.relative_bias_high)]
        axes.plot(ends, [y, y], color=colour, linewidth=1, alpha=0.6)
        area = 24 * min(64, row.evaluations) ** 0.6
        axes.scatter([x], [y], s=area, color=colour, alpha=0.85, zorder=2 if number is None else 3)
        if number is not None:
            up = 6 if number % 2 == 0 else -12
            axes.annotate(str(number + 1), (x, y), (-3, up), textcoords="offset points", fontsize=8, color=colour)
    axes.set(xscale="log", yscale="log", xlabel="relative bias, with its 95 % interval")
    axes.set_xlim(left / 1.3, None)
    axes.set_ylim(bottom / 1.5, None)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _curves(axes: Axes, report: GradientReport) -> None:
    for number, row in enumerate(shown(report)):
        counts, values = zip(*sorted(row.cosines.items()), strict=True)
        label = f"{number + 1}  {row.name}"
        if len(counts) == 1:
            axes.axhline(values[0], color=plots.COLOURS[number], linestyle=":", label=label)
        else:
            axes.plot(counts, values, color=plots.COLOURS[number], marker=".", markersize=4, label=label)
    axes.set(xscale="log", xlabel="estimates averaged")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.legend(fontsize=8, loc="lower right", handlelength=1.2)
