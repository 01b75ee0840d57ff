"""The handwritten digits that come with the package."""

from importlib.resources import files

import numpy as np
import torch

from ils_lightning.data.image_batches import Binarize, ImageBatches
from ils_lightning.data.image_set import ImageSet, Splits, held_out
from ils_lightning.errors import Refusal

_TRAIN = 1_500
_SPLIT_SEED = 123


class Digits(ImageBatches):
    """1 797 handwritten digits of 8x8 pixels with 17 grey levels: the test part of UCI's optical digits (not MNIST).

    They are those of scikit-learn's `load_digits`, shipped here because their 45 kB are lighter than the dependency and
    a first run must need no network. There is no official split: the first 1 500 of a fixed permutation train, the
    other 297 test. Digits of one writer may be in both.

    Args:
        batch_size: images a step and rank.
        binarize: none | threshold | static | dynamic, see `Binarize`.
        threshold: grey level in [0, 1] above which a pixel is on; half means above 8 of 16.
        validation: the last so many of the training images are for validation. With 0, all 1 500 train and
            there is no validation: the setting in which test results on these digits are quoted.
        seed: of the order of training images and of draws; the split does not depend on it.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
    doi:10.24432/C50P49; CC BY 4.0.

    Example:
        >>> data = Digits()
        >>> data.summary()["images"], data.binarized()
        ('1,350 train, 150 validation, 297 test of 1x8x8', 'threshold > 0.5')
        >>> next(iter(data.train_dataloader())).x.shape
        torch.Size([100, 1, 8, 8])
    """

    def __init__(
        self,
        batch_size: int = 100,
        binarize: Binarize = "threshold",
        threshold: float = 0.5,
        validation: int = 150,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, binarize, threshold, seed)
        if not 0 <= validation < _TRAIN:
            raise Refusal(f"Digits: validation must be from 0 to {_TRAIN - 1} of the 1500; given {validation}")
        self.validation = validation

    def load(self) -> Splits:
        with (files("ils_lightning.data") / "digits.npz").open("rb") as file, np.load(file) as arrays:
            pixels, label = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"]).long()
        everything = ImageSet(pixels.unsqueeze(1), label, maximum=16)
        order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(_SPLIT_SEED))
        return held_out(everything.at(order[:_TRAIN]), everything.at(order[_TRAIN:]), self.validation)
