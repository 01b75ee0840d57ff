"""The characters that text models know: the new line, printable ASCII, and one that stands for all others."""

import numpy as np
import torch
from torch import Tensor

ALPHABET = "\n" + "".join(map(chr, range(32, 127))) + "\N{REPLACEMENT CHARACTER}"
"""Characters by their code; the last stands for every character that is not among the others."""
OTHER = len(ALPHABET) - 1


def codes_of(text: str) -> Tensor:
    """Codes of a text's characters `[characters]`, uint8.

    Example:
        >>> codes_of("a b").tolist()
        [66, 1, 67]
    """
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    codes = np.where((points >= 32) & (points < 127), points - 31, OTHER)
    return torch.from_numpy(np.where(points == ord("\n"), 0, codes).astype(np.uint8))


def text_of(codes: Tensor) -> str:
    """The text of codes `[characters]`.

    Example:
        >>> text_of(codes_of("if x:"))
        'if x:'
    """
    return "".join(ALPHABET[code] for code in codes.tolist())
