"""Pictures of graphs of particles, true and inferred, beside the ways that they take."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ils_lightning import plots
from ils_lightning.data.spring_simulation import directed_edges

_INCHES = 2.4  # of each part
_TRUE, _RIGHT, _WRONG = "0.35", plots.COLOURS[0], plots.COLOURS[1]
_DOTS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


def graphs_and_paths(true: Tensor, inferred: Tensor, seen: Tensor, later: Tensor, predicted: Tensor) -> Figure:
    """A row for each simulation: the true graph, the inferred one, and the particles' ways.

    A directed edge is the half of a line that is next to its receiver. Springs of the inferred graph are blue where
    right and orange where there is none; those that were missed are dotted. Of the ways the part that the model has
    seen is pale, what follows is drawn in full, and what the model predicts of it is dashed.

    Args:
        true: types of directed edges `[simulations, edges]`, 1 for a spring.
        inferred: likewise.
        seen: positions and velocities `[simulations, particles, points, 4]`.
        later: those that follow.
        predicted: the model's in their place.
    """
    with plots.style():
        size = (3 * _INCHES, _INCHES * len(true) + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(true), 3, squeeze=False)
        for row, truth, guess, *ways in zip(grid, true, inferred, seen, later, predicted, strict=True):
            _graph(row[0], seen.shape[1], truth, truth, _TRUE)
            _graph(row[1], seen.shape[1], truth, guess, _RIGHT)
            _ways(row[2], *ways)
            wrong = int((truth != guess).sum())
            told = "all right" if wrong == 0 else f"{wrong} of {len(truth)} edges wrong"
            row[1].text(0, -1.25, told, ha="center", va="center")
        for axes, title in zip(grid[0], ("true graph", "inferred graph", "seen, later, predicted"), strict=True):
            axes.set_title(title)
    return figure


def _graph(axes: Axes, particles: int, true: Tensor, drawn: Tensor, colour: str) -> None:
    """Particles on a circle, and half a line for each spring, drawn or missed."""
    angles = [2 * math.pi * (number + 0.5) / particles for number in range(particles)]
    places = [(math.cos(angle), math.sin(angle)) for angle in angles]
    for receiver, sender, truth, type_ in zip(*directed_edges(particles), true.tolist(), drawn.tolist(), strict=True):
        if not truth and not type_:
            continue
        (x, y), (far_x, far_y) = places[receiver], places[sender]
        line = [x, (x + far_x) / 2], [y, (y + far_y) / 2]
        axes.plot(*line, ":" if not type_ else "-", color=colour if truth == type_ else _WRONG, linewidth=1.8)
    for number, place in enumerate(places):
        axes.plot(*place, "o", color=_dot(number), markersize=10)
    axes.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), xticks=[], yticks=[], aspect="equal")
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _ways(axes: Axes, seen: Tensor, later: Tensor, predicted: Tensor) -> None:
    for number, (before, after, guess) in enumerate(zip(seen, later, predicted, strict=True)):
        start = before[-1:, :2]
        for part, style in ((after, {}), (guess, {"linestyle": (0, (2, 2)), "color": "black", "linewidth": 1.2})):
            way = [*start.tolist(), *part[:, :2].tolist()]
            axes.plot(*zip(*way, strict=True), **{"color": _dot(number), "linewidth": 2.2, **style})
        axes.plot(*before[:, :2].T.tolist(), color=_dot(number), alpha=0.35, linewidth=1.2)
        axes.plot(*start[0].tolist(), "o", color=_dot(number), markersize=4)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)


def _dot(number: int) -> str:
    return _DOTS[number % len(_DOTS)]
