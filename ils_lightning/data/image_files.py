"""The user's own images."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ils_lightning.data.batches import generator
from ils_lightning.data.image_arrays import as_images, read_arrays
from ils_lightning.data.image_batches import Binarize, ImageBatches
from ils_lightning.data.image_set import ImageSet, Splits
from ils_lightning.errors import Refusal

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # some others start a program to be read
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning)
_MODES = {"grey": "L", "rgb": "RGB"}


class ImageFiles(ImageBatches):
    """Images from a folder, or from an array in a .npy or .npz file.

    A folder holds images (PNG, JPEG, BMP, GIF, TIFF, WebP or PPM) directly, without labels, or one sub-folder a class,
    numbered in the order of their names. An array is uint8 `[images, height, width]`, or with one or three channels as
    second or last axis; in an .npz it is named `x`, its labels `y`. The images are split at random, the same way
    whenever `split_seed` is the same.

    Args:
        path: the folder or file.
        size: height and width to which the images of a folder are resized; null where all are of one size.
        color: grey | rgb, what the images of a folder are read as.
        batch_size: images a step and rank.
        binarize: none | threshold | static | dynamic, see `Binarize`.
        threshold: grey level in [0, 1] above which a pixel is on, for binarize threshold.
        validation: share of the images for validation.
        test: share of the images for the test.
        split_seed: of the split.
        seed: of the order of training images and of draws.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "mine.npy"
        >>> np.save(path, np.zeros((50, 16, 16), dtype=np.uint8))
        >>> ImageFiles(str(path), validation=0.1, test=0.2).summary()["images"]
        '35 train, 5 validation, 10 test of 1x16x16'
    """

    def __init__(
        self,
        path: str,
        size: tuple[int, int] | None = None,
        color: Literal["grey", "rgb"] = "grey",
        batch_size: int = 100,
        binarize: Binarize = "none",
        threshold: float = 0.5,
        validation: float = 0.1,
        test: float = 0.1,
        split_seed: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, binarize, threshold, seed)
        if color not in _MODES:
            raise Refusal(f"ImageFiles: color must be one of {', '.join(_MODES)}; given {color!r}")
        if validation < 0 or test <= 0 or validation + test >= 1:
            raise Refusal(
                "ImageFiles: validation (from 0) and test (above 0) are shares that leave images for training; "
                f"given {validation} and {test}"
            )
        self.path, self.size, self.color = Path(path).expanduser(), size, color
        self.validation, self.test, self.split_seed = validation, test, split_seed
        self._places: dict[str, Tensor] = {}
        self._names: list[str] = []

    def load(self) -> Splits:
        everything = self._of_folder() if self.path.is_dir() else self._of_array()
        count = len(everything)
        test, validation = (max(1, round(share * count)) if share else 0 for share in (self.test, self.validation))
        if test + validation >= count:
            raise Refusal(
                f"ImageFiles: {count} images are too few for training, validation and test; add some to {self.path}"
            )
        order = torch.randperm(count, generator=generator(self.split_seed))
        parts = order.split([count - test - validation, validation, test])
        self._places = dict(zip(Splits._fields, parts, strict=True))
        return Splits(*(everything.at(part) for part in parts))

    def origin(self, split: str) -> tuple[Tensor, list[str]]:
        count = len(getattr(self.splits, split))  # loads them
        places = self._places[split]
        return places, [self._names[place] for place in places.tolist()] if self._names and count else []

    def summary(self) -> dict[str, str]:
        return super().summary() | {"data": str(self.path)}

    def _of_array(self) -> ImageSet:
        if not self.path.is_file() or self.path.suffix not in (".npy", ".npz"):
            raise Refusal(f"ImageFiles: path must be a folder of images or a .npy or .npz file; given {self.path}")
        arrays = read_arrays(self.path)
        if "x" not in arrays:
            raise Refusal(f"ImageFiles: {self.path} must hold images named x; given {', '.join(arrays)}")
        try:
            return as_images(arrays["x"], arrays.get("y"))
        except Refusal as error:
            raise Refusal(f"ImageFiles: {self.path}: {error}") from None

    def _of_folder(self) -> ImageSet:
        classes = sorted(folder for folder in self.path.iterdir() if folder.is_dir())
        known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in _FORMATS}
        found = [
            (path, label)
            for label, folder in (enumerate(classes) if classes else [(-1, self.path)])
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in known
        ]
        if not found:
            raise Refusal(f"ImageFiles: there are no images in {self.path}, nor one folder below")
        pixels = [self._pixels(path) for path, _ in found]
        self._names = [path.relative_to(self.path).as_posix() for path, _ in found]
        for (path, _), image in zip(found, pixels, strict=True):
            if image.shape != pixels[0].shape:
                raise Refusal(
                    f"ImageFiles: images must be of one size, or size be given; {found[0][0].name} has "
                    f"{list(pixels[0].shape[1:])}, {path.name} has {list(image.shape[1:])}"
                )
        return ImageSet(torch.stack(pixels), torch.tensor([label for _, label in found]))

    def _pixels(self, path: Path) -> Tensor:
        """Reads one image: uint8 `[channels, height, width]`."""
        try:
            with _bounded(), Image.open(path, formats=_FORMATS) as file:
                mode = file.mode
                upright = ImageOps.exif_transpose(file)  # as a camera was held
                image = upright.convert(_MODES[self.color])
        except _UNREADABLE as error:
            raise Refusal(f"ImageFiles: {path} is no image that can be read: {error}") from None
        if mode[0] in "IF":  # converting cut off everything above 255
            raise Refusal(f"ImageFiles: images must have 8 bits a channel; {path.name} has mode {mode}")
        if self.size is not None:
            height, width = self.size
            image = image.resize((width, height))
        array = np.asarray(image)
        return torch.from_numpy(np.atleast_3d(array).transpose(2, 0, 1).copy())


@contextmanager
def _bounded() -> Iterator[None]:
    """Refuses images of more pixels than Pillow finds sensible, which it would decode with a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
