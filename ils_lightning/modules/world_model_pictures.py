"""Pictures of episodes: what happened, and what a world model imagines."""

from matplotlib.figure import Figure
from torch import Tensor

from ils_lightning import plots
from ils_lightning.data.cart_pole import OBSERVED
from ils_lightning.data.episodes import Episodes


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
            later = episodes.first[column, 1:].nonzero()
            end = int(later[0]) + 1 if len(later) else episodes.first.shape[1]
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
            grid[0, column].set_title(f"validation episode of {end} steps" if len(later) else "a validation episode")
            grid[-1, column].set_xlabel("step")
        grid[0, 0].legend(loc="best", fontsize=7)
    return figure
