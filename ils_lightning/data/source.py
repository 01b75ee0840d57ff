"""Where a published set of images comes from, and how its files are read."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from numpy.typing import NDArray

from ils_lightning.data import compressed
from ils_lightning.data.image_arrays import read_arrays
from ils_lightning.data.image_set import ImageSet
from ils_lightning.errors import Refusal


class Official(NamedTuple):
    """The published training and test images."""

    train: ImageSet
    test: ImageSet


@dataclass(frozen=True)
class Source:
    """A data set by name.

    Args:
        name: what it is called here, also the name of an archive `NAME.npz`.
        files: digest of each file, decompressed.
        mirrors: addresses of folders that hold the files.
        suffix: what the mirrors add to the names of files.
        layout: folder below a data folder in which torchvision keeps the files.
        validation: training images commonly held out for validation.
        system: folder in which Debian's package of the data puts the files.
    """

    name: str
    files: Mapping[str, str]
    mirrors: tuple[str, ...]
    suffix: str
    layout: str
    validation: int
    system: Path | None = None

    def parse(self, contents: Mapping[str, bytes]) -> Official:
        """Returns the images of the files' decompressed contents."""
        raise NotImplementedError

    def of_arrays(self, arrays: Mapping[str, NDArray]) -> Official:
        """Returns the images of arrays `train_x`, `train_y`, `test_x`, `test_y`."""
        raise NotImplementedError

    def read(self, place: Path) -> Official | None:
        """Returns the images kept at `place`, a folder or an archive, or None where it does not hold them all."""
        archive = place if place.suffix == ".npz" else place / f"{self.name}.npz"
        if archive.is_file():
            return self.of_arrays(read_arrays(archive))
        for folder in (place, place / self.layout, place / self.name):
            paths = {file: _plain_or_compressed(folder / file) for file in self.files}
            if all(paths.values()):
                return self.parse({file: self.content(path, file) for file, path in paths.items() if path})
        return None

    def require(self, keys: tuple[str, ...], arrays: Mapping[str, NDArray]) -> None:
        """Raises a ValueError unless `arrays` holds all `keys`."""
        if missing := [key for key in keys if key not in arrays]:
            raise Refusal(f"{self.name}.npz must hold {', '.join(keys)}; missing: {', '.join(missing)}")

    def content(self, path: Path, file: str) -> bytes:
        """Returns what `path` holds, decompressed.

        Raises:
            ValueError: when that is not the published file.
        """
        content = compressed.read(path)
        self.check(content, file, str(path))
        return content

    def check(self, content: bytes, file: str, where: str) -> None:
        """Raises a ValueError unless `content` is that of the published `file`."""
        expected = self.files[file]
        given = digest(content, expected.partition(":")[0])
        if given != expected:
            raise Refusal(f"{where} is not {self.name}'s {file}: its content has {given}, not {expected}")


def digest(content: bytes, kind: str) -> str:
    """Returns `kind:hex` of `content`; kind git is the name a git repository gives to a file of that content."""
    if kind == "git":
        return "git:" + hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return f"{kind}:{hashlib.new(kind, content).hexdigest()}"


def _plain_or_compressed(path: Path) -> Path | None:
    return next((one for one in (path, path.with_name(path.name + ".gz")) if one.is_file()), None)
