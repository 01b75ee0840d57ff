"""The comparison's figure: a panel for each run and setting, a panel for each setting, all in one, or by budget."""

from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from ils_lightning import plots
from ils_lightning.compare.grid.spec import Comparison
from ils_lightning.compare.report.budgets import budgets
from ils_lightning.compare.report.curves import Curve
from ils_lightning.compare.report.looks import legend_below, looks
from ils_lightning.compare.report.panels import panels, titled
from ils_lightning.looks import PALETTE
from ils_lightning.looks import looks as looks_of

_LETTERS_PER_INCH = 15  # of a caption
_LINE = 0.17  # inches, of a caption
_DEEPEST = 1e-5  # of the top of an axis, at which it ends


def draw(comparison: Comparison, curves: list[Curve], narrow: bool = False) -> Figure:
    """Draws the curves that have results in the comparison's layout; in one column for a narrow page."""
    curves = [curve for curve in curves if curve.finished]
    with plots.style():
        figure = _LAYOUTS[comparison.layout](curves, narrow)
        titled(figure, comparison.title)
        if comparison.caption:
            _write_below(figure, comparison.caption)
    return figure


def _write_below(figure: Figure, caption: str) -> None:
    """Writes the caption under the panels, for which the figure grows, above the legend where that is below them."""
    text = fill(caption, int(_LETTERS_PER_INCH * figure.get_figwidth()))
    figure.set_figheight(figure.get_figheight() + _LINE * (text.count("\n") + 1))
    if not figure.legends:
        figure.supxlabel(text, fontsize=9)
        return
    figure.legends[0].set_title(text, prop=FontProperties(size=9))


def _panels(curves: list[Curve], narrow: bool) -> Figure:
    runs = list(dict.fromkeys(curve.run for curve in curves))
    columns = max(sum(curve.run == run for curve in curves) for run in runs)
    figure, grid = panels(3.6, [2.9] * len(runs), columns, narrow, rest=(0, 0.6), sharex=True, sharey=True)
    for line, run in zip(grid, runs, strict=True):
        mine = [curve for curve in curves if curve.run == run]
        for axes, curve in zip(line, mine, strict=False):
            _panel(axes, curve)
        for axes in line[len(mine) :]:
            axes.remove()
        for axes in line if narrow else line[:1]:
            axes.set_ylabel(f"{run}\n{mine[0].tracked.label}")
    for axes in grid[-1]:
        axes.set_xlabel("optimiser step")
    return figure


def _panel(axes: Axes, curve: Curve) -> None:
    label = f"mean of {curve.values[0].numel()} trials"
    seeds = curve.values.mean(dim=2).unbind(dim=1)
    for number, seed in enumerate(seeds if len(seeds) > 1 else ()):
        name = "each seed" if number == 0 else None
        axes.plot(curve.steps, seed, color=plots.COLOURS[7], alpha=0.6, linewidth=0.7, label=name)
    axes.plot(curve.steps, curve.mean, color=plots.COLOURS[0], linewidth=1, label=label)
    if curve.floor == curve.floor:
        axes.axhline(curve.floor, color=plots.COLOURS[1], linestyle="--", label="predicted bias floor")
    axes.set(title=curve.setting or curve.run, yscale="log")
    axes.legend(fontsize=8)


def _lines(curves: list[Curve], narrow: bool) -> Figure:
    figure, ((axes,),) = panels(7.5, [3.2 + 0.22 * len(curves) if narrow else 4.6], 1, narrow)
    order = sorted(curves, key=lambda curve: -float(curve.values[-1].mean()))
    look = looks_of(curve.label for curve in order)
    for number, curve in enumerate(order):
        colour, _, width = look[curve.label]
        dashes = "-" if number < len(PALETTE) else "--"
        mean = curve.mean
        label = f"{curve.label}  {mean[-1]:.2g}"
        axes.plot(curve.steps, mean, label=label, color=colour, linestyle=dashes, linewidth=width)
    axes.set(yscale="log", xlabel="optimiser step", ylabel=curves[0].tracked.label)
    legend: Any = {"fontsize": 8, "title": "worst to best, last value"}
    if narrow:
        figure.legend(loc="outside lower center", **legend)
    else:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), **legend)
    return figure


def _settings(curves: list[Curve], narrow: bool) -> Figure:
    names, look = list(dict.fromkeys(curve.setting for curve in curves)), looks(curves)
    references = {curve.setting: curve for curve in curves if curve.reference}
    heights = [3.45, 2.3] if references else [2.3]
    figure, grid = panels(2.7, heights, len(names), narrow, rest=(0.6, 0.8), sharex=True, sharey="row")
    for name, *column in zip(names, *grid, strict=True):
        mine = {curve.run: curve for curve in curves if curve.setting == name}
        for run in [run for run in look if run in mine]:
            _line(column[0], mine[run], look[run])
            if name in references and not mine[run].reference:
                _distance(column[1], mine[run], references[name], look[run])
        column[0].set(title=name, yscale="log")
        column[-1].set(xlabel="optimiser step", yscale="log")
        column[0].margins(x=0, y=0.1)
    highest = max(axes.dataLim.y1 for axes in grid[0])
    if grid[0, 0].get_ylim()[0] < _DEEPEST * highest:  # an exact curve may end in rounding, far below all others
        grid[0, 0].set_ylim(_DEEPEST * highest, 2 * highest)
    plots.plain_log_ticks(grid[0, 0].yaxis)
    for column in grid.T if narrow else grid.T[:1]:
        column[0].set_ylabel(curves[0].tracked.label)
        if references:
            column[1].set_ylabel(f"distance to\n{next(iter(references.values())).run}")
    if references:
        grid[1, 0].set_ylim(bottom=_DEEPEST * grid[1, 0].get_ylim()[1])
    legend_below(figure, list(look))
    return figure


def _distance(axes: Axes, curve: Curve, reference: Curve, look: dict[str, Any]) -> None:
    """Draws the distance of the means over rows, past the common start."""
    axes.plot(curve.steps[1:], (curve.mean - reference.mean)[1:].abs(), **look)


def _line(axes: Axes, curve: Curve, look: dict[str, Any]) -> None:
    """Draws the mean over rows, and their range where there are several."""
    rows = curve.values.flatten(1)
    axes.plot(curve.steps, curve.mean, label=curve.run, **look)
    if rows.shape[1] > 1 and not curve.reference:
        axes.fill_between(curve.steps, rows.amin(dim=1), rows.amax(dim=1), color=look["color"], alpha=0.2, linewidth=0)


_LAYOUTS = {"panels": _panels, "settings": _settings, "lines": _lines, "budgets": budgets}
