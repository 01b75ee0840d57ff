"""Images in memory, as small as they come: one byte a pixel."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.nn import functional

from ils_lightning.data.images import Images
from ils_lightning.errors import Refusal


@dataclass(frozen=True)
class ImageSet:
    """Images of one split and their labels.

    Args:
        pixels: uint8 `[images, channels, height, width]`, from 0 to `maximum`.
        label: int64 `[images]`, -1 where there is none.
        maximum: the value of a pixel fully on.

    Example:
        >>> pixels = torch.tensor([0, 3, 9, 16], dtype=torch.uint8).reshape(1, 1, 2, 2)
        >>> ImageSet(pixels, torch.tensor([7]), maximum=16).grey(slice(None)).x.flatten()
        tensor([0.0000, 0.1875, 0.5625, 1.0000])
    """

    pixels: Tensor
    label: Tensor
    maximum: int = 255

    def __len__(self) -> int:
        return len(self.pixels)

    def at(self, index: Tensor | slice) -> Self:
        """Returns the images at `index`."""
        return type(self)(_rows(self.pixels, index), _rows(self.label, index), self.maximum)

    def grey(self, index: Tensor | slice) -> Images:
        """Returns the images at `index` with pixels in [0, 1]."""
        return Images(_rows(self.pixels, index).float().div_(self.maximum), _rows(self.label, index))

    def batch(self, index: Tensor | slice, noise: Generator | None = None) -> Images:
        """Returns the images at `index`: grey, or drawn with `noise` as `drawn` does."""
        return self.grey(index) if noise is None else self.at(index).drawn(noise).grey(slice(None))

    def drawn(self, generator: Generator) -> Self:
        """Returns binary images: each pixel is on with the probability that its grey level states.

        Whole numbers below `maximum` are as likely to be less than a pixel as the pixel's grey level says, exactly.
        """
        noise = torch.randint(self.maximum, self.pixels.shape, dtype=torch.uint8, generator=generator)
        return type(self)((noise < self.pixels).to(torch.uint8), self.label, 1)

    def thresholded(self, threshold: float) -> Self:
        """Returns binary images: a pixel is on where its grey level, in [0, 1], is above `threshold`."""
        return type(self)((self.pixels > threshold * self.maximum).to(torch.uint8), self.label, 1)

    def within(self, margin: int) -> Self:
        """Returns the images with `margin` blank pixels on every side."""
        return type(self)(functional.pad(self.pixels, (margin,) * 4), self.label, self.maximum) if margin else self

    def mean(self) -> Tensor:
        """Returns the mean image in [0, 1], `[channels, height, width]`."""
        return (self.pixels.sum(dim=0, dtype=torch.float64) / (len(self) * self.maximum)).float()


def _rows(values: Tensor, index: Tensor | slice) -> Tensor:
    """Indexes the first axis; index_select is several times faster than brackets."""
    return values[index] if isinstance(index, slice) else values.index_select(0, index)


class Splits(NamedTuple):
    """Training, validation and test images; validation may be empty."""

    train: ImageSet
    val: ImageSet
    test: ImageSet


def held_out(train: ImageSet, test: ImageSet, validation: int) -> Splits:
    """Returns splits whose validation images are the last `validation` training images.

    Raises:
        ValueError: when that leaves no training images.
    """
    if not 0 <= validation < len(train):
        raise Refusal(f"validation must be from 0 to {len(train) - 1} of the training images; given {validation}")
    first = len(train) - validation
    return Splits(train.at(slice(first)), train.at(slice(first, None)), test)
