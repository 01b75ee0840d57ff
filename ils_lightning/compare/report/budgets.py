"""The curves against three budgets: optimiser steps, evaluations of f and seconds of training."""

from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from torch import Tensor

from ils_lightning import plots
from ils_lightning.compare.report.curves import Curve
from ils_lightning.compare.report.looks import legend_below, looks
from ils_lightning.compare.report.panels import panels

_AXES: list[tuple[str, Callable[[Curve], Tensor]]] = [
    ("optimiser steps", lambda curve: curve.steps),
    ("evaluations of f", lambda curve: curve.evaluations),
    ("seconds of training", lambda curve: curve.times),
]


def budgets(curves: list[Curve], narrow: bool) -> Figure:
    """Draws three panels for each setting, in a row or for a narrow page in a column; means over seeds and trials."""
    settings, look = list(dict.fromkeys(curve.setting for curve in curves)), looks(curves)
    figure, grid = panels(11 / 3, [2.9] * len(settings), len(_AXES), narrow, rest=(0, 0.8), sharey="row")
    for setting, line in zip(settings, grid, strict=True):
        mine = [curve for curve in curves if curve.setting == setting]
        for axes, (label, spent) in zip(line, _AXES, strict=True):
            for curve in mine:
                axes.plot(spent(curve), curve.mean, label=curve.run, **look[curve.run])
            axes.set_xlabel(label)
            if label != _AXES[0][0]:
                axes.set_xscale("log")
                found = torch.cat([spent(curve) for curve in mine]).double()
                found = found[found > 0]  # a curve may begin before anything is spent
                if found.numel():
                    plots.numbered_log_axis(axes.xaxis, float(found.min()), float(found.max()))
                    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plots.short(value)))
        _scale(line[0], mine)
        for axes in line if narrow else line[:1]:
            axes.set_ylabel(f"{setting}\n{mine[0].tracked.label}".strip())
    legend_below(figure, list(look))
    return figure


def _scale(axes: Axes, curves: list[Curve]) -> None:
    """Leaves the first points, which are alike, out of sight; a log axis where the values are positive."""
    early = [float(curve.mean[min(len(curve.mean) // 20 + 1, len(curve.mean) - 1)]) for curve in curves]
    low, high = min(float(curve.mean.min()) for curve in curves), max(early)
    if low > 0:
        axes.set_yscale("log")
        plots.plain_log_ticks(axes.yaxis)
        if high < 2 * low:  # where 1, 2 and 5 of a decade would leave one number, or none
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_minor_locator(NullLocator())
    if high > low:
        axes.set_ylim(low - 0.03 * (high - low) if low <= 0 else low * (high / low) ** -0.03, high)
