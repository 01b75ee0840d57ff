"""TeX to MathML while the site is built: browsers draw it themselves, without a script and without a network."""

import html
import re

from latex2mathml.converter import convert

_SPAN = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_SAME = {
    r"\begin{aligned}": r"\begin{align*}",
    r"\end{aligned}": r"\end{align*}",
    r"\begin{gathered}": r"\begin{align*}",
    r"\end{gathered}": r"\end{align*}",
    r"\arg\max": r"\argmax",
    r"\arg\min": r"\argmin",
    r"\operatorname*": r"\operatorname",
}
"""What the converter does not know, in words that it knows."""


def mathml(tex: str, display: str = "inline") -> str:
    r"""Returns MathML of a formula.

    Raises:
        ValueError: when a command of TeX is unknown to the converter, or an `&` stands outside of a table.

    Example:
        >>> mathml(r"\pi").endswith("<mi>&#x003C0;</mi></mrow></math>")
        True
    """
    known = tex
    for given, same in _SAME.items():
        known = known.replace(given, same)
    found = convert(known, display=display)
    if lost := re.findall(r"<m[iox][^>]*>(\\\w+|&)</m", found):
        raise ValueError(f"{lost[0]} is not understood in the formula {tex}")
    found = re.sub(r"<m([io])>&#x0007E;</m\1>", "<mo>&#x0223C;</mo>", found)  # a relation has its space
    found = found.replace("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>')
    # browsers align a table's cells by style alone
    return re.sub(r'columnalign="(\w+)"', r'style="text-align: \1"', found)


def rendered(page: str) -> str:
    """Returns the HTML of a page with its formulas in MathML; what the search finds is the words beside them."""
    return _SPAN.sub(_element, page)


def _element(found: re.Match[str]) -> str:
    kind, tex = found[1], html.unescape(found[2])
    display = "block" if kind == "div" else "inline"
    return f'<{kind} class="formula" data-search-exclude>{mathml(tex, display)}</{kind}>'
