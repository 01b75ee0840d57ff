"""Omniglot as it is used to compare latent-variable models.

Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016, arXiv:1509.00519: 24 345 training and 8 070
test images of 28x28, of Lake, Salakhutdinov and Tenenbaum's handwritten characters, Science 350, 2015.
"""

from collections.abc import Mapping
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray

from ils_lightning.data.image_arrays import as_images
from ils_lightning.data.image_set import ImageSet
from ils_lightning.data.source import Official, Source
from ils_lightning.errors import Refusal


class OmniglotSource(Source):
    """The 28x28 characters of the importance-weighted autoencoder's authors, grey levels rounded to 1/255.

    Their training images are shuffled as those authors do, so that the last 1 345 are their validation images.
    """

    def parse(self, contents: Mapping[str, bytes]) -> Official:
        try:
            from scipy.io import loadmat
        except ImportError:
            raise Refusal(
                "omniglot: reading chardata.mat needs SciPy: pip install 'ils-lightning[omniglot]', "
                "or give an omniglot.npz of train_x and test_x"
            ) from None
        (content,) = contents.values()
        arrays = loadmat(BytesIO(content))
        parts = [(arrays["data"], arrays["target"]), (arrays["testdata"], arrays["testtarget"])]
        train, test = (ImageSet(_upright(images), torch.from_numpy(target.argmax(0))) for images, target in parts)
        return Official(_shuffled(train), test)

    def of_arrays(self, arrays: Mapping[str, NDArray]) -> Official:
        self.require(("train_x", "test_x"), arrays)
        train, test = (as_images(arrays[f"{part}_x"], arrays.get(f"{part}_y")) for part in ("train", "test"))
        return Official(_shuffled(train), test)


def _upright(columns: NDArray) -> torch.Tensor:
    """Images stored as columns of column-major pixels in [0, 1]."""
    images = columns.T.reshape(-1, 1, 28, 28).swapaxes(-1, -2)
    return torch.from_numpy(np.rint(images * 255).astype(np.uint8))


def _shuffled(images: ImageSet) -> ImageSet:
    order = np.random.RandomState(123).permutation(len(images))  # a legacy generator: numpy promises its numbers
    return images.at(torch.from_numpy(order))
