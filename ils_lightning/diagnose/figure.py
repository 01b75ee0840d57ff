"""The report as a figure: bias against noise with cost as size, and cosine against the number averaged."""

from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ils_lightning import plots
from ils_lightning.diagnose.advice import choices
from ils_lightning.diagnose.rows import GradientReport, Row
from ils_lightning.looks import Look, looks

_CURVES = 7
_GREY = "#aaaaaa"
_HIGHEST = 3000.0
"""Per cent at the end of both axes: what is beyond is drawn there."""
_LETTERS = 48
"""Of a title, or of a line below, in a panel's width."""
_BELOW = (
    "Numbers: rank by error. Stars: the ILS family.{} Area: evaluations of f. Left or lower edge: none found. Right or "
    "upper edge: that much or more."
)


def draw(reports: list[GradientReport], narrow: bool = False) -> Figure:
    """Draws two panels for each report: a single one's beside each other, unless for a narrow page, else a column."""
    look = looks(row.name for report in reports for row in shown(report))
    across = len(reports) == 1 and not narrow
    with plots.style():
        width, height = (4.3, 8.6) if narrow else (11.5, 4.8) if across else (4.4 * len(reports) + 0.4, 9.4)
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(*((1, 2) if across else (2, len(reports))), squeeze=False)
        for (plane, curves), report in zip(grid if across else grid.T, reports, strict=True):
            _plane(plane, report, look)
            _curves(curves, report, look)
            plane.set_title(fill(report.title, _LETTERS), fontsize=11, loc="left")
            place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)} if across else {"loc": "upper center"}
            curves.legend(
                fontsize=9, handlelength=2.2, **(place if across else place | {"bbox_to_anchor": (0.5, -0.16)})
            )
        others = any(len(report.applicable) > len(shown(report)) for report in reports)
        below = _BELOW.format(" Grey: further estimators." if others else "")
        figure.supxlabel(fill(below, int(16 * width)), fontsize=8)
    return figure


def shown(report: GradientReport) -> list[Row]:
    """The rows that get a colour, a number and a curve: the best among which advice chooses."""
    return choices(report)[:_CURVES]


def _floor(values: list[float]) -> float:
    """Where nothing is drawn: below the least value that is something."""
    return 0.6 * max(1e-2, min([value for value in values if value > 1e-2], default=1.0))


def _plane(axes: Axes, report: GradientReport, look: dict[str, Look]) -> None:
    """Each estimator at its bias and noise."""
    best = [row.name for row in shown(report)]
    rows = [row for row in report.applicable if row.relative_variance > 0 or row.name in best]
    left = _floor([100 * row.relative_bias for row in rows])
    bottom = _floor([100 * row.noise for row in rows])
    for row in reversed(rows):
        rank = best.index(row.name) if row.name in best else None
        colour, marker = (_GREY, "o") if rank is None else look[row.name][:2]
        ends = (row.relative_bias, row.relative_bias_low, row.relative_bias_high)
        x, low, high = (min(max(100 * value, left), _HIGHEST) for value in ends)
        y = min(max(100 * row.noise, bottom), _HIGHEST)
        area = (70 if marker == "*" else 24) * min(64, row.evaluations) ** 0.6
        axes.plot([low, high], [y, y], color=colour, linewidth=1, alpha=0.6)
        axes.scatter([x], [y], s=area, color=colour, marker=marker, alpha=0.85, zorder=2 if rank is None else 3)
        if rank is not None:
            up = 6 if rank % 2 == 0 else -13
            axes.annotate(str(rank + 1), (x, y), (-3, up), textcoords="offset points", fontsize=9, color=colour)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="bias in % of the gradient's length\n(with its 95 % interval)",
        ylabel="noise of one estimate\nin % of the gradient's length",
    )
    plots.numbered_log_axis(axes.xaxis, left, max([_reach(row.relative_bias_high) for row in rows], default=left))
    plots.numbered_log_axis(axes.yaxis, bottom, max([_reach(row.noise) for row in rows], default=bottom))


def _reach(share: float) -> float:
    return min(100 * share, _HIGHEST)


def _curves(axes: Axes, report: GradientReport, look: dict[str, Look]) -> None:
    for rank, row in enumerate(shown(report), start=1):
        counts, values = zip(*sorted(row.cosines.items()), strict=True)
        label = f"{rank}  {fill(row.name, 34, subsequent_indent='    ')}"
        colour, marker, width = look[row.name]
        if len(counts) == 1:
            axes.axhline(values[0], color=colour, linestyle=":", linewidth=width, label=label)
            continue
        size = 9 if marker == "*" else 5
        axes.plot(counts, values, color=colour, marker=marker, markersize=size, linewidth=width, label=label)
    axes.set(
        xscale="log",
        xlabel="number of estimates averaged",
        ylabel="expected cosine with the gradient\n(1: its very direction)",
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
