"""The curves against three budgets: optimiser steps, evaluations of f and seconds of training."""

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ils_lightning import plots
from ils_lightning.compare.curves import Curve
from ils_lightning.compare.looks import legend_below, looks

_AXES: list[tuple[str, Callable[[Curve], Tensor]]] = [
    ("optimiser steps", lambda curve: curve.steps),
    ("evaluations of f", lambda curve: curve.evaluations),
    ("seconds of training", lambda curve: curve.times),
]


def budgets(curves: list[Curve]) -> Figure:
    """Draws a row of three panels for each setting; the mean over seeds and trials."""
    settings, look = list(dict.fromkeys(curve.setting for curve in curves)), looks(curves)
    legend = 0.22 * (len(look) // 4 + 1)
    figure = Figure(figsize=(11, 2.9 * len(settings) + 0.8 + legend), layout="constrained")
    grid = figure.subplots(len(settings), len(_AXES), sharey="row", squeeze=False)
    for setting, line in zip(settings, grid, strict=True):
        mine = [curve for curve in curves if curve.setting == setting]
        for axes, (label, spent) in zip(line, _AXES, strict=True):
            for curve in mine:
                axes.plot(spent(curve), curve.mean, label=curve.run, **look[curve.run])
            axes.set_xlabel(label)
            if label != _AXES[0][0]:
                ends = [spent(curve)[[0, -1]] for curve in mine]
                axes.set_xscale("log")
                plots.numbered_log_axis(axes.xaxis, min(float(a) for a, _ in ends), max(float(b) for _, b in ends))
        _scale(line[0], mine)
        line[0].set_ylabel(f"{setting}\n{mine[0].tracked.label}".strip())
    legend_below(figure, list(look))
    return figure


def _scale(axes: Axes, curves: list[Curve]) -> None:
    """Leaves the first points, which are alike, out of sight; a log axis where the values are positive."""
    early = [float(curve.mean[min(len(curve.mean) // 20 + 1, len(curve.mean) - 1)]) for curve in curves]
    low, high = min(float(curve.mean.min()) for curve in curves), max(early)
    if low > 0:
        axes.set_yscale("log")
        plots.plain_log_ticks(axes.yaxis)
    if high > low:
        axes.set_ylim(low - 0.03 * (high - low) if low <= 0 else low * (high / low) ** -0.03, high)
