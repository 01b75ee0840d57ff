"""The image data sets of the literature, by name."""

from typing import Literal

from ils_lightning.data.catalogue import CATALOGUE
from ils_lightning.data.image_batches import Binarize, ImageBatches
from ils_lightning.data.image_set import Splits, held_out
from ils_lightning.data.storage import Storage
from ils_lightning.errors import Refusal


class ImageData(ImageBatches):
    """MNIST, Fashion-MNIST or Omniglot (28x28), from files at hand or downloaded once.

    Files are sought in `data_dir`, and nowhere else where that is given; without it, in the folder that the environment
    variable ILS_LIGHTNING_DATA names, in Debian's folder (package dataset-fashion-mnist), and in the cache; else they
    are downloaded into the cache. A folder may hold the published files, plain or as .gz, on their own or laid out as
    torchvision does, or an archive NAME.npz with train_x, train_y, test_x, test_y. Whatever their form, their contents
    must be the published ones: digests are compared (of Omniglot's chardata.mat only, not of archives made of it).

    Published results use two settings, and their numbers cannot be compared: grey pixels, all 60 000 images training
    (binarize none, validation 0), and dynamic Bernoulli pixels, 50 000 training (binarize dynamic, validation 10000).

    Args:
        name: mnist | fashion_mnist | omniglot.
        data_dir: folder, or archive, with the files.
        batch_size: images a step and rank.
        binarize: none | threshold | static | dynamic, see `Binarize`.
        threshold: grey level in [0, 1] above which a pixel is on, for binarize threshold.
        validation: the last so many of the training images are for validation; null for what is usual (10 000 of
            60 000, or 1 345 of Omniglot's 24 345), 0 for none.
        margin: blank pixels added on every side; 2 makes images of 32x32, whose sides can be halved five times.
        download: whether files found nowhere may be downloaded.
        seed: of the order of training images and of draws; the split does not depend on it.

    Example:
        >>> ImageData("mnist", binarize="dynamic", data_dir="~/data").binarized()
        'dynamic'
    """

    def __init__(
        self,
        name: Literal["mnist", "fashion_mnist", "omniglot"] = "mnist",
        data_dir: str | None = None,
        batch_size: int = 100,
        binarize: Binarize = "none",
        threshold: float = 0.5,
        validation: int | None = None,
        margin: int = 0,
        download: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, binarize, threshold, seed)
        if name not in CATALOGUE:
            raise Refusal(f"ImageData: name must be one of {', '.join(CATALOGUE)}; given {name!r}")
        if margin < 0:
            raise Refusal(f"ImageData: margin must be at least 0 pixels; given {margin}")
        if validation is not None and validation < 0:
            raise Refusal(f"ImageData: validation must be at least 0 images; given {validation}")
        self.margin = margin
        self.source, self.validation = CATALOGUE[name], validation
        self.storage = Storage(self.source, data_dir, download)

    def prepare_data(self) -> None:
        """Downloads the files, once a node, if they are at hand nowhere."""
        self.storage.obtain()

    def load(self) -> Splits:
        train, test = self.storage.load()
        validation = self.source.validation if self.validation is None else self.validation
        return held_out(train.within(self.margin), test.within(self.margin), validation)

    def summary(self) -> dict[str, str]:
        return super().summary() | {"data": self.source.name}
