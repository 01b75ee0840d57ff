"""The base of the DataModules for images: splits in memory, batches by slicing, and how pixels become binary."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Literal, get_args

from torch import Tensor

from ils_lightning.data.base import DiscreteData
from ils_lightning.data.batches import Batches, generator
from ils_lightning.data.image_set import ImageSet, Splits

Binarize = Literal["none", "threshold", "static", "dynamic"]
"""What a model sees of a grey image.

none: the grey level. threshold: whether it is above a threshold. static: one Bernoulli draw, made when the data are
loaded. dynamic: a fresh Bernoulli draw whenever a training image is shown; validation and test images keep one draw.
Likelihoods of differently binarised data cannot be compared.
"""


class ImageBatches(DiscreteData, ABC):
    """Batches of `Images` out of memory; a subclass defines `load`.

    Args:
        batch_size: images a step and rank.
        binarize: none | threshold | static | dynamic, see `Binarize`.
        threshold: grey level in [0, 1] above which a pixel is on, for binarize threshold.
        seed: of the order of training images and of all draws; the split does not depend on it.
    """

    def __init__(self, batch_size: int, binarize: Binarize, threshold: float, seed: int) -> None:
        super().__init__()
        name = type(self).__name__
        if batch_size < 1:
            raise ValueError(f"{name}: batch_size must be at least 1; given {batch_size}")
        if binarize not in get_args(Binarize):
            raise ValueError(f"{name}: binarize must be one of {', '.join(get_args(Binarize))}; given {binarize!r}")
        if not 0 <= threshold < 1:
            raise ValueError(f"{name}: threshold is a grey level from 0 to below 1; given {threshold}")
        self.batch_size, self.binarize, self.threshold, self.seed = batch_size, binarize, threshold, seed

    @abstractmethod
    def load(self) -> Splits:
        """Returns the grey images."""

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

    def setup(self, stage: str) -> None:
        """Loads the images, once; where none are held out, the Trainer is told that there is no validation.

        Raises:
            ValueError: when validation is asked for and there are no images for it.
        """
        if len(self.splits.val):
            return
        if stage == "validate":
            raise ValueError(
                f"{type(self).__name__} holds out no images for validation: give --data.validation, or test"
            )
        if self.trainer is not None:
            self.trainer.limit_val_batches = 0

    def train_dataloader(self) -> Batches:
        """Training images in a new order each epoch, without the last incomplete batch."""
        return self._batches(self.splits.train, shuffle=True)

    def val_dataloader(self) -> Batches | list:
        """Validation images in order; nothing where none are held out."""
        return self._batches(self.splits.val) if len(self.splits.val) else []

    def test_dataloader(self) -> Batches:
        """Test images in order."""
        return self._batches(self.splits.test)

    def predict_dataloader(self) -> Batches:
        """Test images in order."""
        return self.test_dataloader()

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

    def _batches(self, images: ImageSet, shuffle: bool = False) -> Batches:
        options = {"shuffle": shuffle, "draw": self.binarize == "dynamic", **self.place_in_run(shuffle)}
        return Batches(images, self.batch_size, seed=self.seed, **options)
