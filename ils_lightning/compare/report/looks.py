"""How runs are told apart in a figure: colours, dashes, legend."""

import math
from typing import Any

from matplotlib.figure import Figure

from ils_lightning.compare.report.curves import Curve
from ils_lightning.looks import PALETTE
from ils_lightning.looks import looks as looks_of

_LINE = 0.22
"""Inches: the height of a line of the legend."""
_LETTER = 0.075
"""Inches: the width of a letter there, or a little more."""
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1)), (0, (7, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))


def looks(curves: list[Curve]) -> dict[str, dict[str, Any]]:
    """How to draw each run, from worst to best last value over all settings; a reference is black and on top."""
    last: dict[str, list[float]] = {}
    for curve in curves:
        last.setdefault(curve.run, []).append(float(curve.mean[-1]))
    black: dict[str, Any] = {"color": "black", "linestyle": (0, (1, 1)), "linewidth": 2.2, "zorder": 3}
    found: dict[str, dict[str, Any]] = {curve.run: black for curve in curves if curve.reference}
    others = [run for run in sorted(last, key=lambda run: -sum(last[run]) / len(last[run])) if run not in found]
    look = looks_of(others)
    for number, run in enumerate(others):
        # neighbours in rank often coincide: dashes let the line beneath be seen
        dashes = _DASHES[(number % 2 + 2 * (number // (2 * len(PALETTE)))) % len(_DASHES)]
        found[run] = {
            "color": look[run].colour,
            "linestyle": dashes,
            "linewidth": look[run].width,
            "zorder": 2 + number % 2 / 2,
        }
    return found


def legend_below(figure: Figure, runs: list[str]) -> None:
    """Lists the runs that were drawn, in this order, below all panels, for which the figure grows."""
    lines = {str(line.get_label()): line for axes in figure.axes for line in axes.get_lines()}
    shown = [run for run in runs if run in lines]
    widest = max(2.2, 0.7 + _LETTER * max((len(run) for run in shown), default=0))
    columns = max(1, int(figure.get_figwidth() / widest))
    figure.set_figheight(figure.get_figheight() + _LINE * math.ceil(len(shown) / columns))
    figure.legend(
        [lines[run] for run in shown], shown, loc="outside lower center", ncols=columns, fontsize=9, handlelength=3
    )
