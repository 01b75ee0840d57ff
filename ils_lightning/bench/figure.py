"""Pictures of a benchmark: ratios as bars by size, costs as lines over what grows."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ils_lightning import plots
from ils_lightning.bench.peers import FLOOR, REFERENCE, floors, peers
from ils_lightning.bench.section import Section


def draw(sections: Sequence[Section]) -> dict[str, Figure]:
    """Returns the figures of the sections that have one, by file name."""
    found = {}
    for section in sections:
        if section.name == "samplers, ratio":
            found["samplers"] = bars(section)
    grown = [section for section in sections if section.pivot and section.pivot[2] == "microseconds"]
    return found | ({"growth": lines(grown)} if grown else {})


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


def lines(sections: Sequence[Section]) -> Figure:
    """Time of each method over what grows, one panel for each of four sections; black is what no draw can go below."""
    with plots.style():
        figure = Figure(figsize=(9.5, 6.6), layout="constrained")
        panels = figure.subplots(2, 2).flat
        names = list(dict.fromkeys(row["method"] for section in sections for row in section.rows))
        own = [name for name in names if name not in peers() | floors()]
        styles = {name: _line(name, own.index(name) if name in own else 0) for name in names}
        for section, axes in zip(sections, panels, strict=True):
            _grow(axes, section, styles)
        _legend_of_all(figure)
    return figure


def _grow(axes: Axes, section: Section, styles: dict[str, dict[str, Any]]) -> None:
    for name, style in styles.items():
        points = [(row["size"], row["microseconds"]) for row in section.rows if row["method"] == name]
        if points:
            axes.plot(*zip(*points, strict=True), label=name, **style)
    sizes = sorted({row["size"] for row in section.rows})
    axes.set(xscale="log", yscale="log", xlabel=section.rows[0]["grows"], ylabel="microseconds")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
    axes.set_title(section.title.removeprefix("microseconds of "))
    low, high = axes.get_ylim()
    if high < 1000 * low:
        plots.plain_log_ticks(axes.yaxis)
    axes.minorticks_off()


def _line(name: str, number: int) -> dict[str, Any]:
    if name in floors():
        return {"color": "black", "linestyle": "-" if name == FLOOR else ":", "linewidth": 1.2}
    style = {"color": _colour(name, number), "marker": "o", "markersize": 3.5, "linewidth": 1.6}
    return style | ({"linestyle": "--"} if name in peers() else {})


def _legend_of_all(figure: Figure) -> None:
    labels: dict[str, Any] = {}
    for axes in figure.axes:
        handles, names = axes.get_legend_handles_labels()
        labels |= {name: handle for handle, name in zip(handles, names, strict=True) if name not in labels}
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=4)


def _colour(name: str, number: int) -> str:
    if name == FLOOR:
        return "black"
    greys = ("#bbbbbb", "#999999", "#777777", "#555555", "#333333")
    return greys[list(peers()).index(name)] if name in peers() else plots.COLOURS[number % 6]


def _legend(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
