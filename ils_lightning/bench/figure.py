"""Pictures of a benchmark: ratios as bars by size, costs as lines over what grows."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ils_lightning import plots
from ils_lightning.bench.peers import FLOOR, REFERENCE, peers
from ils_lightning.bench.section import Section


def draw(sections: Sequence[Section]) -> dict[str, Figure]:
    """Returns the figures of the sections that have one, by file name."""
    found = {}
    for section in sections:
        if section.name == "samplers, ratio":
            found["samplers"] = bars(section)
    return found


def bars(section: Section) -> Figure:
    """Time of each method at each size, relative to the reference, which is the line at 1."""
    headings, lines = section.table()
    lines = [line for line in lines if line[0] != REFERENCE]
    with plots.style():
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots()
        width = 0.84 / len(lines)
        for number, (name, *cells) in enumerate(lines):
            place = [column + (number - (len(lines) - 1) / 2) * width for column in range(len(cells))]
            axes.bar(place, [float(text) for text in cells], width, label=name, color=_colour(name, number), zorder=2)
        axes.axhline(1, color="black", linewidth=0.9)
        axes.set_xticks(range(len(headings) - 1), headings[1:])
        axes.grid(axis="x", visible=False)
        axes.set(yscale="log", ylabel=f"time / {REFERENCE}(hard=True)", xlabel="batch x categories")
        plots.plain_log_ticks(axes.yaxis)
        _legend(axes)
    return figure


def _colour(name: str, number: int) -> str:
    if name == FLOOR:
        return "black"
    greys = ("#bbbbbb", "#999999", "#777777", "#555555", "#333333")
    return greys[list(peers()).index(name)] if name in peers() else plots.COLOURS[number % 6]


def _legend(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
