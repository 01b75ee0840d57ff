"""Names that a comparison file gives, as they may stand in terminals, figures, tables and names of folders."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from unicodedata import bidirectional, category

from ils_lightning.errors import Refusal

_LONGEST = 100  # bytes of a folder's name
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")  # of a terminal, and what ends a line
_TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # controls of the direction of writing
_IN_NO_NAME = re.compile(r'[ /\\:*?"<>|]')


def require_showable(what: str, text: str, lines: bool = False) -> None:
    r"""Checks that a text can be shown.

    Args:
        what: this is, for the message.
        text: to be shown.
        lines: whether it may have several lines, or none.

    Raises:
        ValueError: when it has characters that control a terminal, turn the direction of what follows or end a string,
            or nothing to be seen.

    Example:
        >>> require_showable("a run's name", "a\x1b[2J")
        Traceback (most recent call last):
        ils_lightning.errors.Refusal: a run's name must be text that can be shown, on one line; given 'a\x1b[2J'
    """
    shown = text.replace("\n", " ") if lines else text
    controls = any(category(letter) in _CONTROLS or bidirectional(letter) in _TURNS for letter in shown)
    if controls or not (lines or text.strip()):
        raise Refusal(f"{what} must be text that can be shown{'' if lines else ', on one line'}; given {text!r}")


def folder_names(labels: Sequence[str]) -> list[str]:
    """Returns a name of a folder for each label, no two alike on any file system, and none that leads elsewhere.

    Example:
        >>> folder_names(["ReinMax L8K4", "..", "a b", "a/b"])
        ['ReinMax_L8K4', '_-5ec1f7e7', 'a_b-c8687a08', 'a_b-c14cddc0']
    """
    names = [_IN_NO_NAME.sub("_", label) for label in labels]
    short = [name.encode()[:_LONGEST].decode(errors="ignore").strip(".") or "_" for name in names]
    often = Counter(name.casefold() for name in short)
    found = []
    for place, (name, whole, label) in enumerate(zip(short, names, labels, strict=True)):
        same = "\0" * labels[:place].count(label)  # of two runs and settings that are called alike as one
        digest = hashlib.sha256(f"{label}{same}".encode()).hexdigest()[:8]
        found.append(name if name == whole and often[name.casefold()] == 1 else f"{name}-{digest}")
    return found
