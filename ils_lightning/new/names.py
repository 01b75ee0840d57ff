"""Names of a new class and its file, and the errors for those that will not do."""

import ast
import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ils_lightning.errors import Refusal

_CAMEL = re.compile(r"[A-Z][A-Za-z0-9]*")
_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LONGEST = 30  # the import must fit on a line


class Names(NamedTuple):
    """The name of a class and, without suffix, that of its file."""

    of_class: str
    of_file: str


def names(word: str) -> Names:
    """Returns the names that a word in CamelCase or snake_case stands for.

    Raises:
        ValueError: when it is neither, too long, or a word of Python's own.

    Example:
        >>> names("MyEstimator"), names("ils_like").of_class, names("ILSLike").of_file
        (Names(of_class='MyEstimator', of_file='my_estimator'), 'IlsLike', 'ils_like')
    """
    if _CAMEL.fullmatch(word):
        found = Names(word, _BOUNDARY.sub("_", word).lower())
    elif _SNAKE.fullmatch(word):
        found = Names("".join(part[0].upper() + part[1:] for part in word.split("_")), word)
    else:
        raise Refusal(
            "NAME must be CamelCase or snake_case, of letters and digits, such as MyEstimator or my_estimator"
            f"{_instead(word)}; given {word!r}"
        )
    if len(found.of_class) > _LONGEST:
        raise Refusal(f"NAME must have at most {_LONGEST} letters; given {word!r}")
    for part in found:
        if keyword.iskeyword(part):
            raise Refusal(f"NAME must be no word of Python's own, as {part!r} is; did you mean {_mine(found)!r}?")
    return found


def check_is_free(found: Names, taken: dict[str, str]) -> None:
    """Checks that no class of the package has the name; capital letters and underscores make no difference.

    Args:
        found: the names.
        taken: by name of a class, the package that has it.

    Raises:
        ValueError: when there is one; it names it.
    """
    alike = {name.lower(): name for name in taken}
    if name := alike.get(found.of_class.lower()):
        raise Refusal(
            f"{taken[name]} has a {name} already: did you mean to use it? Else choose another name, such as "
            f"{_mine(found)}; given {found.of_class}"
        )


def check_is_importable(found: Names) -> None:
    """Checks that a file of this name in the current folder hides no module of Python's or of an installed package.

    Raises:
        ValueError: when it would.
    """
    if found.of_file in sys.stdlib_module_names or find_spec(found.of_file) is not None:
        raise Refusal(
            f"a file {found.of_file}.py would hide the installed module {found.of_file!r}; did you mean "
            f"{_mine(found)!r}?"
        )


def public(package: Path) -> list[str]:
    """Returns the names that the `__init__.py` of a package exports, without importing it."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(x, ast.Name) and x.id == "__all__" for x in node.targets):
            return list(ast.literal_eval(node.value))
    return []


def _mine(found: Names) -> str:
    return f"My{found.of_class}"


def _instead(word: str) -> str:
    """Suggests the word with its parts capitalised and joined."""
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", word) if part]
    joined = "".join(part[0].upper() + part[1:] for part in parts).lstrip("0123456789")
    return f", did you mean {joined!r}?" if _CAMEL.fullmatch(joined) else ""
