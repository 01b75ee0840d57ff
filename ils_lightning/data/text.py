"""A text to learn from, character by character: the English that comes with Python, or a file."""

import platform
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ils_lightning.data import compressed
from ils_lightning.data.characters import OTHER, codes_of
from ils_lightning.data.passage_set import PassageSet
from ils_lightning.data.split_data import SplitData
from ils_lightning.errors import Refusal

_MOST_OTHERS = 0.05  # share of characters outside the alphabet from which on it is the wrong alphabet


class _Splits(NamedTuple):
    train: PassageSet
    val: PassageSet
    test: PassageSet


class Text(SplitData):
    """Passages of a text; its first part is learnt from, the next is for validation, the last for the test.

    Training passages begin at random places. Characters are those of `data.characters.ALPHABET`.

    Args:
        file: a text in UTF-8, plain or as .gz; Python's own help on its topics (`pydoc_data.topics`, 465 126
            characters in Python 3.11.7) unless given.
        length: characters of a passage to predict.
        validation: share of the text for validation.
        test: share of the text for the test.
        batch_size: passages a step and rank.
        seed: of the order of training passages and of where they begin.

    Raises:
        ValueError: when there is no text, it is too short, or more than a twentieth of it is outside the alphabet.

    Example:
        >>> data = Text(length=32)
        >>> next(iter(data.train_dataloader())).characters.shape
        torch.Size([16, 33])
    """

    called = "passages"
    draws = True

    def __init__(
        self,
        file: str | None = None,
        length: int = 128,
        validation: float = 0.05,
        test: float = 0.05,
        batch_size: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        if length < 1:
            raise Refusal(f"Text: length must be at least 1; given {length}")
        if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
            raise Refusal(
                f"Text: validation and test are shares of the text, above 0 and together below 1; given {validation} "
                f"and {test}"
            )
        self.file = None if file is None else Path(file).expanduser()
        self.length, self.shares = length, (validation, test)

    @cached_property
    def codes(self) -> Tensor:
        """Codes of the whole text `[characters]`, uint8."""
        codes = codes_of(_of_python() if self.file is None else _of_file(self.file))
        others = self._others(codes)
        if others > _MOST_OTHERS:
            raise Refusal(
                f"Text: {others:.0%} of the characters of {self._name()} are outside the alphabet, which is printable "
                f"ASCII and the new line; {_MOST_OTHERS:.0%} may be"
            )
        return codes

    @cached_property
    def splits(self) -> _Splits:
        """The three parts of the text."""
        total = len(self.codes)
        sizes = [round(share * total) for share in self.shares]
        parts = self.codes.split([total - sum(sizes), *sizes])
        found = _Splits(*(PassageSet(part, self.length, number == 0) for number, part in enumerate(parts)))
        if any(len(split) == 0 for split in found):
            raise Refusal(
                f"Text: each part needs at least length + 1 = {self.length + 1} characters; of the {total:,} of "
                f"{self._name()}, {', '.join(str(len(part)) for part in parts)} are for training, validation and test"
            )
        return found

    def summary(self) -> dict[str, str]:
        """What to print beside every result on these data."""
        train, val, test = (f"{len(split.codes):,}" for split in self.splits)
        others = f"{self._others(self.codes):.2%} outside the alphabet"
        return {"data": self._name(), "characters": f"{train} train, {val} validation, {test} test; {others}"}

    def _name(self) -> str:
        return f"pydoc_data.topics of Python {platform.python_version()}" if self.file is None else self.file.name

    @staticmethod
    def _others(codes: Tensor) -> float:
        return float((codes == OTHER).sum()) / max(1, len(codes))


def _of_python() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise Refusal("Text: this Python has no pydoc_data.topics; name a text by --data.file") from None
    return "\n\n".join(topics[name] for name in sorted(topics))


def _of_file(path: Path) -> str:
    if not path.is_file():
        raise Refusal(f"Text: file must be a text in UTF-8; given {path}")
    try:
        return compressed.read(path).decode().replace("\r\n", "\n")
    except (Refusal, OSError, UnicodeDecodeError) as error:
        raise Refusal(f"Text: file {path} cannot be read: {error}") from None
