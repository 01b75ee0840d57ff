"""Formulas in the prose of docstrings, in the signs of print: Greek letters, indices, powers."""

import re
from unicodedata import lookup

_NAMES = ("alpha", "beta", "delta", "epsilon", "eps", "eta", "theta", "kappa", "lambda", "nu", "xi", "pi", "rho", "tau")
_IN_UNICODE = {"lambda": "lamda", "eps": "epsilon"}
_GREEK = {name: lookup(f"GREEK SMALL LETTER {_IN_UNICODE.get(name, name)}") for name in _NAMES}
_LETTER = re.compile(rf"(?<![\w.\\])(?<!\w-)(?<![A-Za-z]/)({'|'.join(_GREEK)})(?![A-Za-z0-9]|-\w)")
_INDEX = re.compile(
    r"(?<![\w/.\\])(sum|d?[A-Za-z\u03b1-\u03c9])\\?_(?:\{([^{}]*)\}|([A-Za-z0-9\u03b1-\u03c9]{1,3}))(?![A-Za-z0-9]|\\?_)"
)
_POWER = re.compile(r"\^(?:\(((?:[^()]|\([^()]*\))*)\)|(-?\w+))")
_SAME = ((r"\s?!= ", " ≠ "), (r"\s-> ", " → "), (r"\\?\|\\?\|", "‖"), (r"\bsqrt\(", "√("), (r"\bsum (?=[a-z]\b)", "Σ "))
_PIECES = re.compile(r"(`[^`]*`)")
_ARGUMENT = re.compile(r"(\s+\*{0,2}\w+(?: \([^)]*\))?: )(.*)", re.DOTALL)


def printed(text: str) -> str:
    """Returns prose with its formulas in signs, as HTML in Markdown; what stands between backticks is left alone.

    Example:
        >>> printed("E M_s theta = J_pi theta, `pi` at tau -> 0: sum_k pi_k^2")
        'E M<sub>s</sub> θ = J<sub>π</sub> θ, `pi` at τ → 0: Σ<sub>k</sub> π<sub>k</sub><sup>2</sup>'
    """
    pieces = _PIECES.split(text)
    return "".join(piece if odd % 2 else _signs(piece) for odd, piece in enumerate(pieces))


def docstring(text: str) -> str:
    r"""Returns a docstring with its prose so; examples, blocks of code and the names of arguments are left alone.

    Example:
        >>> docstring("Draws at tau.\n\nArgs:\n    tau: the tau of it.")
        'Draws at τ.\n\nArgs:\n    tau: the τ of it.'
    """
    paragraphs = re.split(r"(\n\s*\n)", text)
    return "".join(one if _is_code(one) else _lines(one) for one in paragraphs)


def _is_code(paragraph: str) -> bool:
    return paragraph.lstrip().startswith((">>>", "```")) or "\n    >>>" in paragraph or "::" in paragraph


def _lines(paragraph: str) -> str:
    """Backticks may reach over the end of a line, so that names of arguments are set aside first."""
    lines = [_ARGUMENT.fullmatch(line) for line in paragraph.split("\n")]
    heads = [found[1] if found else "" for found in lines]
    rest = [found[2] if found else line for found, line in zip(lines, paragraph.split("\n"), strict=True)]
    return "\n".join(head + line for head, line in zip(heads, printed("\n".join(rest)).split("\n"), strict=True))


def _signs(text: str) -> str:
    text = _LETTER.sub(lambda found: _GREEK[found[1]], text)
    text = _INDEX.sub(_index, text)
    text = _POWER.sub(lambda found: f"<sup>{found[1] or found[2]}</sup>", text)
    for pattern, sign in _SAME:
        text = re.sub(pattern, sign, text)
    return text


def _index(found: re.Match[str]) -> str:
    head = "Σ" if found[1] == "sum" else found[1]
    return f"{head}<sub>{_LETTER.sub(lambda letter: _GREEK[letter[1]], found[2] or found[3])}</sub>"
