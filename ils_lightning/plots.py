"""Pictures of distributions, curves and images, made without a display.

The colours are Okabe and Ito's, readable by the colour-blind.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill, wrap
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Arc
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from torch import Tensor
from torch.nn import functional

from ils_lightning import atomic
from ils_lightning.errors import Refusal
from ils_lightning.figure_text import make_drawable

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
    """The project's look, inside the block only; a letter that the font lacks is drawn as a box, without a word."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes `stem`.png and `stem`.svg, each put in place only when complete."""
    written = []
    with laid_out(figure):
        for suffix in (".png", ".svg"):
            target, date = stem.with_suffix(suffix), {"Date": None} if suffix == ".svg" else None
            with atomic.replacing(target) as partial:
                figure.savefig(partial, format=suffix[1:], dpi=150, metadata=date)
            written.append(target)
    return written


@contextmanager
def laid_out(figure: Figure) -> Iterator[None]:
    """The project's look, and a figure that can be drawn and is laid out once for all files of the block."""
    engine = figure.get_layout_engine()
    with style():
        make_drawable(figure)
        if engine:  # it takes a third of the time of drawing
            engine.execute(figure)
            figure.set_layout_engine("none")
        try:
            yield
        finally:
            if engine:
                figure.set_layout_engine(engine)


def plain_log_ticks(axis: Axis) -> None:
    """Marks a logarithmic axis in plain numbers: at 1, 2 and 5 of each decade, of more than four at powers of ten."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high <= 1e4 * low else LogLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def numbered_log_axis(axis: Axis, low: float, high: float) -> None:
    """Lets a logarithmic axis reach from a number it shows at or below `low` to one at or above `high`.

    Numbers are powers of ten where these are more than two decades apart, else 1, 2 and 5 times them.
    """
    steps = (1, 10) if high > 100 * low else (1, 2, 5, 10)
    start, end = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.floor(math.log10(high))
    first = max(step * start for step in steps if step * start <= low * (1 + 1e-9))
    last = min(step * end for step in steps if step * end >= high * (1 - 1e-9))
    axis.set_major_locator(LogLocator(subs=steps[:-1], numticks=30))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    set_limits = axis.axes.set_xlim if axis is axis.axes.xaxis else axis.axes.set_ylim
    set_limits(first / 1.1, last * 1.1)


def short(value: float) -> str:
    """A number that finds room beside others: thousands and millions by their letter, from a hundred thousand on.

    Example:
        >>> short(0.5), short(2000), short(500_000), short(2e7)
        ('0.5', '2000', '500k', '20M')
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if 1e5 <= abs(value) < 1e9 and abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


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
    axes.set(xlabel="optimiser step, from 1", ylabel=fill(quantity, 30), yscale="log", xscale="log")


def curve(steps: Tensor, values: Tensor, label: str, quantity: str) -> Figure:
    """The recorded curve of a run: steps `[points]`, values `[points, *rows]` of `quantity`."""
    with style():
        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.subplots()
        draw_curve(axes, steps, values, label, quantity)
        axes.legend()
    return figure


def arcs(names: Sequence[str], true: Sequence[int], learnt: Sequence[int], title: str = "") -> Figure:
    """Tokens in a row, with an arc to each one's parent: true ones above, learnt ones below, where wrong in red.

    Args:
        names: text of each token.
        true: place of each token's parent, -1 for none.
        learnt: likewise.
        title: over the picture.
    """
    with style():
        figure = Figure(figsize=(max(4.0, 0.42 * len(names) + 0.4), 2.8), layout="constrained")
        axes = figure.subplots()
        for place, name in enumerate(names):
            axes.text(place, 0, name.removeprefix("["), ha="center", va="center", family="monospace")
            for parent, side in ((true[place], 1), (learnt[place], -1)):
                if parent >= 0:
                    colour = COLOURS[7] if side > 0 else COLOURS[0] if parent == true[place] else COLOURS[1]
                    _arc(axes, parent, place, side, colour)
        far = max([abs(place - parent) for places in (true, learnt) for place, parent in enumerate(places)], default=1)
        axes.set(xlim=(-1, len(names)), ylim=(-far / 2 - 1.2, far / 2 + 1.2), title=title)
        axes.set_axis_off()
    return figure


def _arc(axes: Axes, start: int, end: int, side: int, colour: str) -> None:
    """Draws half an ellipse between two places, above (1) or below (-1) the line."""
    middle, width = (start + end) / 2, end - start
    first = 0 if side > 0 else 180
    axes.add_patch(Arc((middle, 0.7 * side), width, width, theta1=first, theta2=first + 180, color=colour))


# Two screen dots at 100 dots per inch, three at the 150 of `save`: every pixel of an image gets equally many.
INCHES_PER_DOT = 0.02
DOTS_PER_IMAGE = 32
GAP = 2
_INCHES_PER_LETTER = 0.085  # of a title
_FEWEST_LETTERS = 28  # in a line of one


def image_grid(
    images: Tensor, title: str = "", row_labels: Sequence[str] = (), column_labels: Sequence[str] = ()
) -> Figure:
    """Images in [0, 1], `[rows, columns, channels, height, width]`, grey (1 channel) or RGB (3), on one sheet.

    Raises:
        ValueError: for any other shape, and when there are labels, but not one for each row or column.
    """
    if images.dim() != 5 or images.shape[2] not in (1, 3) or 0 in images.shape:
        raise Refusal(
            "image_grid needs images [rows, columns, channels, height, width] with 1 or 3 channels; "
            f"given {list(images.shape)}"
        )
    rows, columns = images.shape[:2]
    for labels, number, name in ((row_labels, rows, "row"), (column_labels, columns, "column")):
        if labels and len(labels) != number:
            raise Refusal(f"image_grid needs one label per {name}, {number}; given {len(labels)}")
    sheet = _sheet(images.detach().float().cpu())
    left = _width(row_labels)
    height, width = (INCHES_PER_DOT * size for size in sheet.shape[:2])
    lines = wrap(title, max(_FEWEST_LETTERS, int(width / _INCHES_PER_LETTER)))
    top = 0.06 + (0.12 + 0.18 * len(lines) if lines else 0) + (0.22 if column_labels else 0)
    longest = max(map(len, lines), default=0)
    with style():
        figure = Figure(figsize=(left + max(width, _INCHES_PER_LETTER * longest) + 0.06, top + height + 0.06))
        whole_width, whole_height = figure.get_size_inches()
        axes = figure.add_axes((left / whole_width, 0.06 / whole_height, width / whole_width, height / whole_height))
        axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        _label(axes, row_labels, column_labels, sheet.shape)
        place, text = (left / whole_width, 1 - 0.08 / whole_height), "\n".join(lines)
        figure.text(*place, text, va="top", fontsize=STYLE["axes.titlesize"])
    return figure


def _sheet(images: Tensor) -> Any:
    """The images side by side on white, each pixel a square of whole dots: `[height, width(, 3)]` as an array."""
    rows, columns, channels, height, width = images.shape
    dots = max(1, round(DOTS_PER_IMAGE / max(height, width)))
    large = images.clamp(0, 1).repeat_interleave(dots, dim=-2).repeat_interleave(dots, dim=-1)
    padded = functional.pad(large, (0, GAP, 0, GAP), value=1.0)
    sheet = padded.permute(0, 3, 1, 4, 2).reshape(rows * padded.shape[3], columns * padded.shape[4], channels)
    return sheet[:-GAP, :-GAP].squeeze(-1).numpy()


def _width(labels: Sequence[str]) -> float:
    """Inches to leave for row labels."""
    return 0.16 + 0.08 * max(map(len, labels)) if labels else 0.06


def _label(axes: Axes, rows: Sequence[str], columns: Sequence[str], shape: Sequence[int]) -> None:
    """Writes labels at the middle of rows and columns of a sheet `[height, width(, 3)]`, without ticks or frame."""
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    height, width = shape[0] + GAP, shape[1] + GAP
    axes.set_yticks([(row + 0.5) * height / len(rows) - GAP / 2 for row in range(len(rows))], rows)
    axes.set_xticks([(column + 0.5) * width / len(columns) - GAP / 2 for column in range(len(columns))], columns)
