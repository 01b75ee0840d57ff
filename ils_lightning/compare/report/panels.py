"""The panels of a figure: side by side on a wide page, one below the other on a narrow one."""

from textwrap import fill
from typing import Any, Literal

from matplotlib.figure import Figure

NARROW = 4.3
"""Inches: what a telephone shows without scrolling, at a size that can be read."""


_LETTERS_PER_INCH = 10  # of a title


def panels(
    width: float,
    heights: list[float],
    columns: int,
    narrow: bool,
    rest: tuple[float, float] = (0.0, 0.0),
    sharex: bool = False,
    sharey: bool | Literal["row"] = False,
) -> tuple[Figure, Any]:
    """Returns a figure and its panels `[rows, columns]`.

    Args:
        width: of a panel in inches, on a wide page.
        heights: of the rows in inches.
        columns: how many panels stand beside each other, on a wide page.
        narrow: whether all of them stand in one column, the rows of each column together.
        rest: inches beside and below the panels, on a wide page.
        sharex: whether all have one horizontal axis.
        sharey: whether all, or those of a row, have one vertical axis.
    """
    if not narrow:
        size = (max(width * columns + rest[0], NARROW), sum(heights) + rest[1])
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.subplots(
            len(heights), columns, squeeze=False, height_ratios=heights, sharex=sharex, sharey=sharey
        )
    figure = Figure(figsize=(NARROW, columns * sum(heights) + rest[1]), layout="constrained")
    column = figure.subplots(columns * len(heights), 1, squeeze=False, height_ratios=heights * columns)
    grid = column.reshape(columns, len(heights)).T
    for axes in column.flat[1:] if sharex else ():  # joined here, each keeps its own numbers
        axes.sharex(grid[0, 0])
    for line in [grid.flat] if sharey is True else grid if sharey else ():
        for axes in line[1:]:
            axes.sharey(line[0])
    return figure, grid


def titled(figure: Figure, title: str) -> None:
    """Writes the title over all panels, in lines that the figure has room for."""
    figure.suptitle(fill(title, int(_LETTERS_PER_INCH * figure.get_figwidth())))
