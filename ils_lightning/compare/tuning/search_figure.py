"""The figure of a search: a panel for each run, every trial's score against its learning rate."""

from math import ceil
from statistics import median
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ils_lightning import plots
from ils_lightning.compare.tuning.ranges import RATE

if TYPE_CHECKING:
    from ils_lightning.compare.tuning.tuner import Searched, Tuner

_COLUMNS = 4


def along(one: "Searched") -> str:
    """Returns the key that a panel's axis shows: the learning rate, or the first that is searched."""
    return RATE if RATE in one.ranges else next(iter(one.ranges))


def draw(tuner: "Tuner") -> Figure:
    """Draws a panel for each run; settings are colours, what was chosen is ringed.

    Failed trials are crosses at the top, those far above the others triangles there.
    """
    runs = list(dict.fromkeys(one.run.name for one in tuner.searched))
    settings = list(dict.fromkeys(one.setting for one in tuner.searched))
    columns = min(_COLUMNS, len(runs))
    rows = ceil(len(runs) / columns)
    with plots.style():
        figure = Figure(figsize=(3.1 * columns + 0.4, 2.5 * rows + 0.9), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, run in zip(grid.flat, runs, strict=False):
            mine = [one for one in tuner.searched if one.run.name == run]
            _panel(axes, mine, {one.setting: plots.COLOURS[settings.index(one.setting) % 8] for one in mine})
        for axes in list(grid.flat)[len(runs) :]:
            axes.set_axis_off()
        for line in grid:
            line[0].set_ylabel(tuner.measure or "plateau")
        if settings != [""]:
            dots = {
                dot.get_label(): dot for axes in grid.flat for dot in axes.collections if dot.get_label() in settings
            }
            figure.legend(dots.values(), dots, loc="outside lower center", ncols=6, fontsize=9)
        figure.suptitle(f"{tuner.comparison.title}: {tuner.trials} trials on tuning seeds", fontsize=11)
    return figure


def _panel(axes: Axes, mine: list["Searched"], colours: dict[str, str]) -> None:
    trials = {one.setting: one.study.trials() for one in mine}
    scores = [trial.score for made in trials.values() for trial in made if trial.score == trial.score]
    top = _top(scores)
    for one in mine:
        key, colour, best = along(one), colours[one.setting], one.study.best()
        shown = [(trial.values[key], trial.score) for trial in trials[one.setting] if trial.score <= top]
        axes.scatter(*zip(*shown, strict=True), s=14, color=colour, label=one.setting) if shown else None
        if best:
            axes.scatter(best[key], min(score for _, score in shown), s=70, facecolors="none", edgecolors=colour)
        high = [trial.values[key] for trial in trials[one.setting] if trial.score > top]
        failed = [trial.values[key] for trial in trials[one.setting] if trial.score != trial.score]
        for places, mark in ((high, "^"), (failed, "x")):
            (marks,) = axes.plot(places, [1.0] * len(places), mark, color=colour, transform=axes.get_xaxis_transform())
            marks.set(clip_on=False, in_layout=False, markersize=5)
    first = mine[0].ranges[along(mine[0])]
    axes.set_xscale("log" if first.log else "linear")
    axes.set_xlim(first.low, first.high)
    axes.set(
        title=mine[0].run.name, xlabel="learning rate" if along(mine[0]) == RATE else along(mine[0]).split(".")[-1]
    )
    if not scores:
        axes.set_yticks([])


def _top(scores: list[float]) -> float:
    """Where the axis ends: what is far worse than the middle would press all others into one line."""
    if not scores:
        return 0.0
    best, middle, worst = min(scores), median(scores), max(scores)
    return min(worst, best + 4 * (middle - best)) if middle > best else worst
