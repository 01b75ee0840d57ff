"""The comparison's figure: a panel for each setting, or all runs in one."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ils_lightning import plots
from ils_lightning.compare.report import Curve
from ils_lightning.compare.spec import Comparison


def draw(comparison: Comparison, curves: list[Curve]) -> Figure:
    """Draws the curves in the comparison's layout."""
    with plots.style():
        figure = _panels(curves) if comparison.layout == "panels" else _lines(curves)
        figure.suptitle(comparison.title)
        if comparison.caption:
            figure.supxlabel(comparison.caption, fontsize=9, wrap=True)
    return figure


def _panels(curves: list[Curve]) -> Figure:
    runs = list(dict.fromkeys(curve.run for curve in curves))
    columns = max(sum(curve.run == run for curve in curves) for run in runs)
    figure = Figure(figsize=(3.6 * columns, 2.9 * len(runs) + 0.6), layout="constrained")
    grid = figure.subplots(len(runs), columns, sharex=True, sharey=True, squeeze=False)
    for line, run in zip(grid, runs, strict=True):
        mine = [curve for curve in curves if curve.run == run]
        for axes, curve in zip(line, mine, strict=False):
            _panel(axes, curve)
        for axes in line[len(mine) :]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("optimiser step")
        line[0].set_ylabel(f"{run}\nKL(true || learnt) / categories")
    return figure


def _panel(axes: Axes, curve: Curve) -> None:
    label = f"mean of {curve.values[0].numel()} trials"
    seeds = curve.values.mean(dim=2).unbind(dim=1)
    for number, seed in enumerate(seeds if len(seeds) > 1 else ()):
        name = "each seed" if number == 0 else None
        axes.plot(curve.steps, seed, color=plots.COLOURS[7], alpha=0.6, linewidth=0.7, label=name)
    axes.plot(curve.steps, curve.values.flatten(1).mean(dim=1), color=plots.COLOURS[0], linewidth=1, label=label)
    if curve.floor == curve.floor:
        axes.axhline(curve.floor, color=plots.COLOURS[1], linestyle="--", label="predicted bias floor")
    axes.set(title=curve.setting or curve.run, yscale="log")
    axes.legend(fontsize=8)


def _lines(curves: list[Curve]) -> Figure:
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    order = sorted(curves, key=lambda curve: -float(curve.values[-1].mean()))
    for number, curve in enumerate(order):
        colour = plots.COLOURS[number % len(plots.COLOURS)]
        dashes = "-" if number < len(plots.COLOURS) else "--"
        mean = curve.values.flatten(1).mean(dim=1)
        axes.plot(curve.steps, mean, label=f"{curve.label}  {mean[-1]:.2g}", color=colour, linestyle=dashes)
    axes.set(yscale="log", xlabel="optimiser step", ylabel="KL(true || learnt) / categories")
    axes.legend(fontsize=8, title="worst to best, last value", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
