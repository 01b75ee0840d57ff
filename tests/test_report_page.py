"""Reports as pages: complete in one file, whatever is in them."""

import base64
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch
from matplotlib.figure import Figure

from ils_lightning import __version__, plots, report_page
from ils_lightning.compare.report.curves import Curve
from ils_lightning.compare.report.figure import draw as draw_curves
from ils_lightning.modules import Tracked

EMPTY = {"meta", "img", "path", "use", "rect", "br"}


class Balanced(HTMLParser):
    """Follows the elements of a page down and up again."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value[0] != "#"]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag


def parse(text):
    page = Balanced()
    page.feed(text)
    assert page.open == []
    return page


def drawn(points=10):
    figure = Figure(figsize=(4, 3))
    figure.subplots().plot(range(points), [(7919 * place) % 101 for place in range(points)])
    return figure


def test_a_page_is_well_formed_needs_nothing_else_and_says_what_made_it():
    text = report_page.page(
        "a < b & c",
        report_page.lead("1 < 2"),
        report_page.table(["run", "loss"], [["a setting"], ["<b>", "**1.5** (x)"]], best=True),
        report_page.notes(["f(z) & g"]),
        report_page.figure(drawn(), "curve"),
        report_page.folded("file", "runs:\n  - {name: '<x>'}\n"),
        report_page.words({"bias": "of <f>"}),
    )
    page = parse(text)
    assert page.links == []
    assert {"table", "svg", "figure", "details", "pre", "dl"} <= page.seen
    assert "<td>&lt;b&gt;</td><td><b>1.5</b> (x)</td>" in text
    assert '<td colspan="2">a setting</td>' in text
    assert f"ils_lightning {__version__}" in text
    assert "prefers-color-scheme: dark" in text
    assert "http://" not in re.sub(r'xmlns(:\w+)?="[^"]+"|<metadata>.*?</metadata>', "", text, flags=re.DOTALL)


def test_a_figure_of_very_many_lines_is_one_of_dots(monkeypatch):
    assert "<svg" in report_page.figure(drawn(), "curve")
    monkeypatch.setattr(report_page, "_LARGEST_SVG", 1000)
    text = report_page.figure(drawn(), "a & b")
    (link,) = parse(text).links
    kind, _, data = link.partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert 'alt="a &amp; b"' in text


@pytest.mark.parametrize("part", [report_page.folded("file", ""), report_page.notes([])])
def test_what_is_empty_leaves_nothing_behind(part):
    assert part == ""


def test_black_and_blue_of_a_figure_follow_the_page_into_the_dark():
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=plots.COLOURS[0])
    axes.plot([0, 1], [1, 0], color="black")
    text = report_page.figure(figure, "curve")
    assert "stroke: var(--blue)" in text
    assert "stroke: var(--ink)" in text
    assert "#000000" not in text
    assert "filter:" not in report_page.page("dark", text)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["panels", "settings", "lines", "budgets"])
def test_every_layout_has_a_form_for_a_narrow_page(layout):
    found = [curve(run, setting, run == "one") for run in ("one", "three") for setting in ("L1", "L2")]
    comparison = SimpleNamespace(layout=layout, title="a title of many words that goes on for a line", caption="")
    broad, slim = (draw_curves(comparison, found, narrow=narrow) for narrow in (False, True))
    report_page.figure(broad, "curves", slim)
    assert slim.get_figwidth() <= 4.3 < broad.get_figwidth()
    assert sorted(len(axes.lines) for axes in slim.axes) == sorted(len(axes.lines) for axes in broad.axes)
    places = [axes.get_position() for axes in slim.axes]
    assert {round(place.x1, 2) for place in places} == {round(places[0].x1, 2)}, "one column"
    assert len({axes.get_position().x0 for axes in broad.axes}) > (layout != "lines")


def curve(run, setting, reference):
    steps = torch.arange(10)
    values = (10.0 - steps / 2 + len(run)).reshape(10, 1)
    tracked = Tracked("loss", "loss")
    outcomes = [
        SimpleNamespace(
            failed="", seed=0, steps=steps, values=values, times=steps / 9 + 1, spent=5 * steps, tracked=tracked
        )
    ]
    return Curve(run, setting, outcomes, reference=reference)
