"""Pictures of episodes: what happened, and what a world model imagines."""

import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from ils_lightning import plots
from ils_lightning.data.cart_pole import FARTHEST, OBSERVED
from ils_lightning.data.episodes import Episodes
from ils_lightning.data.mini_grid import Cells


def imagined_episodes(episodes: Episodes, followed: Tensor, dreams: Tensor) -> Figure:
    """A column for each episode, a row for each number observed: true, followed in sight of it, and imagined.

    Args:
        episodes: sequences, of which the first episode is shown.
        followed: means of the first `context` observations `[episodes, context, observed]`.
        dreams: means imagined after these `[dreams, episodes, horizon, observed]`.
    """
    columns, context, rows = followed.shape
    names = OBSERVED if rows == len(OBSERVED) else [f"number {row + 1}" for row in range(rows)]
    with plots.style():
        figure = Figure(figsize=(4.2 * columns, 1.5 * rows + 0.6), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for column in range(columns):
            length = episodes.first.shape[1]
            end = _steps_of_first(episodes, column)
            for row, axes in enumerate(grid[:, column]):
                true = episodes.observation[column, :end, row].tolist()
                axes.plot(range(end), true, color=plots.COLOURS[6], linewidth=1.6, label="true")
                seen = followed[column, :, row].tolist()[:end]
                axes.plot(range(len(seen)), seen, ".", color=plots.COLOURS[0], label="followed in sight of it")
                for number, dream in enumerate(dreams[:, column, :, row].tolist()):
                    ahead = range(context, context + len(dream))
                    label = "imagined" if number == 0 else None
                    axes.plot(ahead, dream, color=plots.COLOURS[1], linewidth=0.8, alpha=0.8, label=label)
                axes.axvline(context - 0.5, color=plots.COLOURS[7], linewidth=0.8)
                if column == 0:
                    axes.set_ylabel(names[row].replace(" of ", "\nof "))
            grid[0, column].set_title(f"validation episode of {end} steps" if end < length else "a validation episode")
            grid[-1, column].set_xlabel("step")
        grid[0, 0].legend(loc="best", fontsize=7)
    return figure


_OF_KIND = {
    "unseen": "0.25",
    "empty": "0.97",
    "wall": "0.6",
    "floor": "0.85",
    "open door": "#f2d6a2",
    "closed door": plots.COLOURS[4],
    "locked door": "#8c5a00",
    "key": "#f0e442",
    "ball": plots.COLOURS[0],
    "box": plots.COLOURS[3],
    "goal": plots.COLOURS[2],
    "lava": plots.COLOURS[1],
}
"""The colour of what a cell of a grid world holds."""
_BEFORE, _INCHES = 2, 0.72  # observed views in a picture, and the width of one


def imagined_views(episodes: Episodes, followed: Tensor, dreams: Tensor, cells: Cells) -> Figure:
    """Two rows of views for each episode: what was to be seen, and what is followed and then imagined of it.

    Args:
        episodes: sequences, of which the first episode is shown.
        followed: means of the first `context` observations `[episodes, context, observed]`.
        dreams: means imagined after these `[dreams, episodes, horizon, observed]`; the first dream is shown.
        cells: what observations stand for.
    """
    side, kinds, mean = cells
    context, rows = followed.shape[1], followed.shape[0]
    told = torch.cat([followed[:, context - _BEFORE :], dreams[0]], dim=1)
    true = episodes.observation[:, context - _BEFORE : context - _BEFORE + told.shape[1]]
    pairs = (torch.stack([true, told], dim=1) + mean).unflatten(-1, (side, side, len(kinds))).argmax(dim=-1)
    last = [_steps_of_first(episodes, row) - context + _BEFORE for row in range(rows)]
    with plots.style():
        figure = Figure(figsize=(_INCHES * told.shape[1] + 0.5, 2 * (_INCHES + 0.1) * rows + 0.7), layout="constrained")
        grid = figure.subplots(2 * rows, told.shape[1], squeeze=False)
        for row, (line, views) in enumerate(zip(grid, pairs.flatten(0, 1), strict=True)):
            for step, (axes, view) in enumerate(zip(line, views, strict=True)):
                _draw_view(axes, view if step < last[row // 2] else None, len(kinds), kinds)
            line[0].set_ylabel("imagined" if row % 2 else "true")
        for step, axes in enumerate(grid[0]):
            axes.set_title("observed" if step < _BEFORE else f"{step - _BEFORE + 1}", fontsize=8)
        found = [kinds[kind] for kind in pairs.unique().tolist()]
        patches = [Patch(facecolor=_OF_KIND[kind], edgecolor="0.4", label=kind) for kind in found]
        figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=8)
    return figure


def _steps_of_first(episodes: Episodes, row: int) -> int:
    """Steps of the first episode of a sequence."""
    later = episodes.first[row, 1:].nonzero()
    return int(later[0]) + 1 if len(later) else episodes.first.shape[1]


def _draw_view(axes: Axes, view: Tensor | None, number: int, kinds: tuple[str, ...]) -> None:
    """Draws the cells `[side, side]` of a view and the agent in the middle of its lowest row; nothing where no view."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if view is None:
        return
    colours = ListedColormap([_OF_KIND[kind] for kind in kinds])
    axes.pcolormesh(view.numpy(), cmap=colours, vmin=-0.5, vmax=number - 0.5, edgecolors="0.5", linewidth=0.2)
    axes.plot(len(view) / 2, len(view) - 0.5, marker="^", color=plots.COLOURS[1], markersize=3.5)
    axes.set(xlim=(0, len(view)), ylim=(len(view), 0), aspect="equal")


def acted_episodes(states: Tensor, there: Tensor, steps: int) -> Figure:
    """Where the cart was and how the pole leaned in episodes that were acted, against steps; a dot where they end.

    Args:
        states: of the cart-pole, `[episodes, steps + 1, 4]`.
        there: whether the episode still went on in them, `[episodes, steps + 1]`.
        steps: of an episode, at most.
    """
    shown = {"place of the cart (m)": (states[..., 0], FARTHEST), "angle (degrees)": (states[..., 2].rad2deg(), 12.0)}
    with plots.style():
        figure = Figure(figsize=(7, 4), layout="constrained")
        for axes, (label, (values, limit)) in zip(figure.subplots(2, 1, sharex=True), shown.items(), strict=True):
            for one, alive in zip(values, there, strict=True):
                end = int(alive.sum()) + 1  # the state in which it ended is shown
                axes.plot(one[:end].tolist(), color=plots.COLOURS[0], linewidth=0.9, alpha=0.7)
                if end <= len(one) and not bool(alive.all()):
                    axes.plot(end - 1, float(one[end - 1]), "o", color=plots.COLOURS[1], markersize=4)
            for side in (-limit, limit):
                axes.axhline(side, color=plots.COLOURS[7], linestyle=":", linewidth=1)
            axes.set(ylabel=label, ylim=(-1.1 * limit, 1.1 * limit), xlim=(0, steps))
        axes.set_xlabel("step in the true world")
        figure.suptitle(f"{len(states)} episodes, acted by the likeliest action", fontsize=11)
    return figure
