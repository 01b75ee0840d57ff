"""The language of ListOps: what its expressions are made of, what they are worth, and how they are generated.

An expression is a digit, or an operator, two to five arguments that are expressions, and a closing bracket:
`[MAX 2 9 [MIN 4 7 ] 0 ]` is 9. Tokens are numbers: digits 0 to 9 stand for themselves.

    MIN, MAX;   MED: the median, truncated to a whole number;   SM: the sum modulo 10

Source: N. Nangia and S. Bowman, ListOps: A Diagnostic Dataset for Latent Tree Learning, 2018, 1804.06028.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from ils_lightning.errors import Refusal

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
FIRST_OPERATOR, CLOSE, BLANK = 10, 14, 15
NAMES = (*map(str, range(10)), *OPERATORS, "]", "")
"""The text of each token; the last is the blank that fills rows."""
TOKENS = len(NAMES)
SHORTEST = 4  # tokens of an operator with two digits

_NUMBERS = {name: number for number, name in enumerate(NAMES[:BLANK])}
_OF_DIGITS: tuple[Callable[[list[int]], int], ...] = (min, max, lambda x: int(median(x)), lambda x: sum(x) % 10)


class Expression(NamedTuple):
    """An expression's tokens, its value, and for each token the place of the operator whose argument it is, or -1.

    The first token and closing brackets are nobody's arguments.
    """

    tokens: tuple[int, ...]
    value: int
    parents: tuple[int, ...]


def evaluate(tokens: Sequence[int]) -> Expression:
    """Computes what an expression is worth.

    Raises:
        ValueError: when `tokens` are not one expression.

    Example:
        >>> evaluate(parse("[MAX 2 [SM 9 9 ] ]"))
        Expression(tokens=(11, 2, 13, 9, 9, 14, 14), value=8, parents=(-1, 0, 0, 2, 2, -1, -1))
    """
    opened: list[int] = []
    arguments: list[list[int]] = [[]]
    parents = [-1] * len(tokens)
    for place, token in enumerate(tokens):
        if token == CLOSE:
            if not opened or not arguments[-1]:
                raise Refusal(f"a closing bracket needs an open operator with arguments; place {place} has neither")
            arguments[-2].append(_OF_DIGITS[tokens[opened.pop()] - FIRST_OPERATOR](arguments.pop()))
            continue
        parents[place] = opened[-1] if opened else -1
        if token < FIRST_OPERATOR:
            arguments[-1].append(token)
        else:
            opened.append(place)
            arguments.append([])
    if opened or len(arguments[0]) != 1:
        raise Refusal(f"an expression is one digit or one bracket, closed; given {spell(tokens)!r}")
    return Expression(tuple(tokens), arguments[0][0], tuple(parents))


def parse(text: str) -> list[int]:
    """Returns the tokens of an expression as text; round brackets, which the published files have, say nothing.

    Raises:
        ValueError: for a word that is no token.
    """
    words = text.replace("(", " ").replace(")", " ").split()
    unknown = [word for word in words if word not in _NUMBERS]
    if unknown:
        raise Refusal(f"the tokens of ListOps are {' '.join(_NUMBERS)}; given {unknown[0]!r}")
    return [_NUMBERS[word] for word in words]


def spell(tokens: Sequence[int]) -> str:
    """Returns the text of tokens, without blanks."""
    return " ".join(NAMES[token] for token in tokens if token != BLANK)


def generate(uniform: Callable[[], float], longest: int, depth: int = 20) -> list[int] | None:
    """Draws an expression by the published rules, or None where it is a digit alone or has more than `longest` tokens.

    Below `depth`, an expression is a bracket with probability 1/4, else a digit; operators, digits and the numbers of
    arguments are uniform.

    Args:
        uniform: draws from [0, 1).
        longest: tokens at most.
        depth: brackets within each other at most, less one.
    """
    if uniform() >= 0.25:
        return None
    tokens, missing = [FIRST_OPERATOR + int(4 * uniform())], [2 + int(4 * uniform())]
    while missing:
        if len(tokens) + len(missing) + sum(missing) > longest:  # whatever follows, it will not fit
            return None
        if missing[-1] == 0:
            missing.pop()
            tokens.append(CLOSE)
            continue
        missing[-1] -= 1
        if len(missing) < depth - 1 and uniform() < 0.25:
            tokens.append(FIRST_OPERATOR + int(4 * uniform()))
            missing.append(2 + int(4 * uniform()))
        else:
            tokens.append(int(10 * uniform()))
    return tokens
