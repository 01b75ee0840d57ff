"""A picture of a text whose characters are coloured by what a model decided for each."""

from typing import Any

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ils_lightning.plots import COLOURS, style

_COLUMNS = 64
_WIDTH, _HEIGHT = 0.11, 0.2  # inches of a character
_LETTER: Any = {"ha": "center", "va": "center", "family": "monospace", "fontsize": 8, "parse_math": False}


def coloured_text(text: str, categories: list[int], title: str) -> Figure:
    """Draws a text in lines of 64 characters, each on the colour of its category; from the ninth on they repeat."""
    rows = -(-len(text) // _COLUMNS)
    with style():
        figure = Figure(figsize=(_COLUMNS * _WIDTH + 0.2, rows * _HEIGHT + 0.45))
        width, height = figure.get_size_inches()
        axes = figure.add_axes((0.1 / width, 0.08 / height, _COLUMNS * _WIDTH / width, rows * _HEIGHT / height))
        axes.set(xlim=(0, _COLUMNS), ylim=(rows, 0))
        axes.set_axis_off()
        for place, (character, category) in enumerate(zip(text, categories, strict=True)):
            row, column = divmod(place, _COLUMNS)
            colour = to_rgba(COLOURS[category % len(COLOURS)], 0.45)
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, linewidth=0))
            shown = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}" if character == "\n" else character
            axes.text(column + 0.5, row + 0.5, shown, **_LETTER)
        figure.text(0.1 / width, 1 - 0.08 / height, title, va="top", fontsize=9)
    return figure
