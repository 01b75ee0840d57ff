"""Pictures of Sudoku boards: clues, digits that fit and digits that clash."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from ils_lightning import plots
from ils_lightning.data.sudoku_rules import DIGITS, UNITS

_INCHES = 1.9  # of a board


def clashes(board: Tensor) -> Tensor:
    """Whether each cell of full boards `[*any, 81]` holds a digit that its row, column or box holds again."""
    z = functional.one_hot(board - 1, DIGITS).float()
    often = (UNITS.to(z) @ z > 1).float()
    return ((UNITS.to(z).mT @ often) * z).sum(dim=-1) > 0


def solving(clues: Tensor, boards: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Boards of puzzles at some moments: clues grey and bold, digits that fit blue, digits that clash orange.

    Args:
        clues: `[puzzles, 81]`, 0 where there is none.
        boards: full boards `[puzzles, moments, 81]`.
        rows: a label for each puzzle.
        columns: a label for each moment.
    """
    with plots.style():
        figure = Figure(figsize=(_INCHES * len(columns) + 0.3, _INCHES * len(rows) + 0.3), layout="constrained")
        grid = figure.subplots(len(rows), len(columns), squeeze=False)
        wrong = clashes(boards)
        for line, label, given, digits, bad in zip(grid, rows, clues, boards, wrong, strict=True):
            for axes, one, clash in zip(line, digits, bad, strict=True):
                _draw(axes, given, one, clash)
            line[0].set_ylabel(label)
        for axes, label in zip(grid[0], columns, strict=True):
            axes.set_title(label)
    return figure


def _draw(axes: Axes, clues: Tensor, board: Tensor, clash: Tensor) -> None:
    for number in range(10):
        width = 1.2 if number % 3 == 0 else 0.4
        axes.axhline(number, color="black", linewidth=width)
        axes.axvline(number, color="black", linewidth=width)
    for place, (given, digit, bad) in enumerate(zip(clues.tolist(), board.tolist(), clash.tolist(), strict=True)):
        row, column = divmod(place, 9)
        colour = plots.COLOURS[1] if bad and not given else "0.35" if given else plots.COLOURS[0]
        weight = "bold" if given else "normal"
        style = {"color": colour, "weight": weight, "fontsize": 7, "ha": "center", "va": "center_baseline"}
        axes.text(column + 0.5, row + 0.5, str(digit), **style)
    axes.set(xlim=(-0.1, 9.1), ylim=(9.1, -0.1), xticks=[], yticks=[], aspect="equal")
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
