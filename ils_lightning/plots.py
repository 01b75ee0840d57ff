"""Pictures of the toy problems, made without a display; colours are Okabe and Ito's, readable by the colour-blind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from torch import Tensor

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.titlesize": 11,
    "font.size": 10,
    "legend.frameon": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "svg.hashsalt": "ils_lightning",
}


@contextmanager
def style() -> Iterator[None]:
    """The project's look, inside the block only."""
    with mpl.rc_context(STYLE):
        yield


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes `stem`.png and `stem`.svg, each put in place only when complete."""
    written = []
    for suffix in (".png", ".svg"):
        target = stem.with_suffix(suffix)
        partial = target.with_name(f".{target.name}.partial")
        with style():
            figure.savefig(partial, format=suffix[1:], dpi=150, metadata={"Date": None} if suffix == ".svg" else None)
        partial.replace(target)
        written.append(target)
    return written


def plain_log_ticks(axis: Axis) -> None:
    """Marks a logarithmic axis at 1, 2 and 5 of each decade, in plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def true_and_learnt(p: Tensor, pi: Tensor) -> Figure:
    """Bars of one row's true distribution beside the learnt one; both `[*rows, categories]`."""
    p, pi = p.reshape(-1, p.shape[-1])[0], pi.reshape(-1, pi.shape[-1])[0]
    with style():
        figure = Figure(figsize=(5, 3), layout="constrained")
        draw_bars(figure.subplots(), p, pi)
    return figure


def draw_bars(axes: Axes, p: Tensor, pi: Tensor) -> None:
    """Draws true and learnt probabilities `[categories]` side by side."""
    place = range(len(p))
    axes.bar([k - 0.2 for k in place], p.tolist(), width=0.4, label="true", color=COLOURS[7])
    axes.bar([k + 0.2 for k in place], pi.tolist(), width=0.4, label="learnt", color=COLOURS[0])
    axes.set(xlabel="category", ylabel="probability", title="true and learnt distribution, first trial")
    axes.set_xticks(list(place) if len(p) <= 20 else [])
    axes.legend()


def draw_curve(axes: Axes, steps: Tensor, values: Tensor, label: str, quantity: str, colour: str = COLOURS[0]) -> None:
    """Draws the mean over rows of `values` `[points, *rows]` and their range; a log axis shows the fast start."""
    rows = values.reshape(len(values), -1)
    steps = steps + 1
    axes.plot(steps, rows.mean(dim=1), color=colour, label=label, linewidth=0.9)
    if rows.shape[1] > 1:
        axes.fill_between(
            steps, rows.amin(dim=1), rows.amax(dim=1), color=colour, alpha=0.15, linewidth=0, label="all trials"
        )
    axes.set(xlabel="optimiser step, from 1", ylabel=quantity, yscale="log", xscale="log")


def curve(steps: Tensor, values: Tensor, label: str, quantity: str) -> Figure:
    """The recorded curve of a run: steps `[points]`, values `[points, *rows]` of `quantity`."""
    with style():
        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.subplots()
        draw_curve(axes, steps, values, label, quantity)
        axes.legend()
    return figure
