"""What an image model sees in a step."""

from typing import NamedTuple

from torch import Tensor


class Images(NamedTuple):
    """A batch of images.

    `x` is float32 `[batch, channels, height, width]` in [0, 1], grey or binarised; `label` is int64 `[batch]`, -1 where
    there is none.
    """

    x: Tensor
    label: Tensor
