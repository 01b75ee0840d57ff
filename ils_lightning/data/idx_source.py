"""Data sets published as IDX files: MNIST and those made in its likeness."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ils_lightning.data.idx import from_idx, to_idx
from ils_lightning.data.image_set import ImageSet
from ils_lightning.data.source import Official, Source


class IDXSource(Source):
    """The four files of the MNIST family, in the order training images and labels, test images and labels."""

    def parse(self, contents: Mapping[str, bytes]) -> Official:
        arrays = [torch.from_numpy(from_idx(contents[file])) for file in self.files]
        train, test = (
            ImageSet(images.unsqueeze(1), labels.long())
            for images, labels in zip(arrays[::2], arrays[1::2], strict=True)
        )
        return Official(train, test)

    def of_arrays(self, arrays: Mapping[str, NDArray]) -> Official:
        keys = ("train_x", "train_y", "test_x", "test_y")
        self.require(keys, arrays)
        contents = {file: to_idx(arrays[key].astype(np.uint8)) for file, key in zip(self.files, keys, strict=True)}
        for file, content in contents.items():
            self.check(content, file, f"{self.name}.npz")
        return self.parse(contents)
