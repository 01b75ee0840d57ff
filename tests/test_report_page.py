"""Reports as pages: complete in one file, whatever is in them."""

import base64
import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from ils_lightning import __version__, report_page

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
