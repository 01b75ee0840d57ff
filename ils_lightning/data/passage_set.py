"""A text in memory, one byte a character, and the passages of it that a model sees in a step."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor


class Passages(NamedTuple):
    """A batch of passages: `characters` are codes, int64 `[batch, length + 1]`, of which the first is only given."""

    characters: Tensor


@dataclass(frozen=True)
class PassageSet:
    """The passages of one split, side by side: each begins with the last character of the one before.

    Args:
        codes: of the whole split, uint8 `[characters]`.
        length: characters to predict in a passage.
        shifts: whether a passage begins anywhere up to `length` characters after its place, where noise is given.
    """

    codes: Tensor
    length: int
    shifts: bool = False

    def __len__(self) -> int:
        return max(0, len(self.codes) - 1) // self.length

    def batch(self, index: Tensor | slice, noise: Generator | None = None) -> Passages:
        """Returns the passages at `index`, shifted by noise where that is asked for."""
        start = torch.arange(len(self))[index] * self.length
        if self.shifts and noise is not None:
            start = start + torch.randint(self.length, start.shape, generator=noise)
            start = start.clamp(max=len(self.codes) - self.length - 1)
        places = start.unsqueeze(-1) + torch.arange(self.length + 1)
        return Passages(self.codes[places].long())
