"""The base of the DataModules for images: how pixels become binary."""

from functools import cached_property
from typing import Literal, get_args

from torch import Tensor

from ils_lightning.data.batches import generator
from ils_lightning.data.image_set import Splits
from ils_lightning.data.split_data import SplitData
from ils_lightning.errors import Refusal

Binarize = Literal["none", "threshold", "static", "dynamic"]
"""What a model sees of a grey image.

none: the grey level. threshold: whether it is above a threshold. static: one Bernoulli draw, made when the data are
loaded. dynamic: a fresh Bernoulli draw whenever a training image is shown; validation and test images keep one draw.
Likelihoods of differently binarised data cannot be compared.
"""


class ImageBatches(SplitData):
    """Batches of `Images` out of memory; a subclass defines `load`.

    Args:
        batch_size: images a step and rank.
        binarize: none | threshold | static | dynamic, see `Binarize`.
        threshold: grey level in [0, 1] above which a pixel is on, for binarize threshold.
        seed: of the order of training images and of all draws; the split does not depend on it.
    """

    _abstract = True
    called = "images"

    def __init__(self, batch_size: int, binarize: Binarize, threshold: float, seed: int) -> None:
        super().__init__(batch_size, seed)
        name = type(self).__name__
        if binarize not in get_args(Binarize):
            raise Refusal(f"{name}: binarize must be one of {', '.join(get_args(Binarize))}; given {binarize!r}")
        if not 0 <= threshold < 1:
            raise Refusal(f"{name}: threshold is a grey level from 0 to below 1; given {threshold}")
        self.binarize, self.threshold, self.draws = binarize, threshold, binarize == "dynamic"

    def load(self) -> Splits:
        """Returns the grey images."""
        raise NotImplementedError

    @cached_property
    def splits(self) -> Splits:
        """The images as they are kept: grey, or binary where that is settled once."""
        grey = self.load()
        if self.binarize == "threshold":
            return Splits(*(split.thresholded(self.threshold) for split in grey))
        if self.binarize == "static":
            return Splits(*(split.drawn(generator(self.seed, number, 0)) for number, split in enumerate(grey)))
        return grey

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.splits.train.pixels.shape[1:]
        return channels, height, width

    @cached_property
    def pixel_mean(self) -> Tensor:
        """Mean training image as the model sees it, `[channels, height, width]`."""
        return self.splits.train.mean()

    def summary(self) -> dict[str, str]:
        """What to print beside every result on these data."""
        train, val, test = (f"{len(split):,}" for split in self.splits)
        shape = "x".join(map(str, self.image_shape))
        return {
            "data": type(self).__name__,
            "images": f"{train} train, {val} validation, {test} test of {shape}",
            "binarize": self.binarized(),
        }

    def binarized(self) -> str:
        """How pixels were made binary, in words."""
        return f"threshold > {self.threshold:g}" if self.binarize == "threshold" else self.binarize
