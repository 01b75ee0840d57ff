"""Images from arrays that others made."""

import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ils_lightning.data.image_set import ImageSet
from ils_lightning.errors import Refusal


def read_arrays(path: Path) -> dict[str, NDArray]:
    """Returns the arrays of an .npz file by name; that of an .npy file is named x.

    Raises:
        ValueError: when the file is damaged, or holds anything but arrays of plain numbers; it is named.
    """
    try:
        if path.suffix == ".npz" and not zipfile.is_zipfile(path):
            raise Refusal("it is no archive, or not all of one")
        loaded = np.load(path)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        with loaded as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError) as error:
        raise Refusal(f"{path} is no {path.suffix} file of plain numbers that can be read: {error}") from None


def as_images(x: NDArray, y: NDArray | None = None) -> ImageSet:
    """Returns uint8 images `[images, height, width]`, with channels first or last, and their labels if there are any.

    Raises:
        ValueError: when `x` or `y` is of another type or shape.
    """
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or not len(x):
        raise Refusal(
            "images must be uint8 [images, height, width], or with channels as the second or last axis; "
            f"given {x.dtype} {list(x.shape)}"
        )
    pixels = torch.from_numpy(x)
    if pixels.ndim == 3:
        pixels = pixels.unsqueeze(1)
    elif x.shape[-1] in (1, 3) and x.shape[1] not in (1, 3):
        pixels = pixels.movedim(-1, 1)
    if y is not None and y.shape != x.shape[:1]:
        raise Refusal(f"there must be one label an image, [{len(x)}]; given {list(y.shape)}")
    if y is not None and y.dtype.kind not in "iub":
        raise Refusal(f"labels must be whole numbers; given {y.dtype}")
    label = torch.full((len(x),), -1) if y is None else torch.from_numpy(y.astype(np.int64))
    return ImageSet(pixels.contiguous(), label)
