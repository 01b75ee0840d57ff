"""Texts of figures: what stands between dollar signs is a formula to Matplotlib, and fails the figure if it is none."""

import re
from collections.abc import Callable

from matplotlib.axis import Axis
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

_FORMULA = re.compile(r"\$([^$\n]+)\$")


def make_drawable(figure: Figure) -> None:
    """Lets texts of a figure whose dollar signs enclose no formula be drawn as they are written."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(drawable(text.get_text()))
    for axis in figure.findobj(Axis):
        assert isinstance(axis, Axis)
        for formatter in (axis.get_major_formatter(), axis.get_minor_formatter()):
            if isinstance(formatter, FuncFormatter):  # which labels that are given are kept by, too
                formatter.func = _drawable_answers(formatter.func)


def _drawable_answers(func: Callable[..., str]) -> Callable[..., str]:
    return lambda *place: drawable(func(*place))


def drawable(text: str) -> str:
    r"""Returns a text with dollar signs escaped in lines that are no formulas.

    Example:
        >>> drawable("$x^2$ and\nfrom 5 to $x^{$")
        '$x^2$ and\nfrom 5 to \\$x^{\\$'
    """
    return "\n".join(line if _is_drawable(line) else line.replace("$", r"\$") for line in text.split("\n"))


def plain(text: str) -> str:
    """Returns a text without the dollar signs around its formulas, for pages that draw none.

    Example:
        >>> plain("$|z - 0.45|^p$, at 5 $ each")
        '|z - 0.45|^p, at 5 $ each'
    """
    return _FORMULA.sub(r"\1", text)


def _is_drawable(line: str) -> bool:
    if not is_math_text(line):
        return True
    try:
        MathTextParser("path").parse(line)
    except ValueError:
        return False
    return True
