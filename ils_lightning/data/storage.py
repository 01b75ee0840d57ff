"""Where the files of a data set may be, and how they get there."""

import os
from pathlib import Path
from typing import Any

import pooch
from lightning.pytorch.utilities import rank_zero_info

from ils_lightning.data.source import Official, Source
from ils_lightning.errors import Refusal

VARIABLE = "ILS_LIGHTNING_DATA"
"""Environment variable that names a folder of data."""

_TIMEOUT = 30  # seconds without an answer


class Storage:
    """The places in which a source's files are sought, in this order.

    The folder that the environment variable ILS_LIGHTNING_DATA names, the system's own, and the cache, into which
    downloads go. Where a folder (or archive) is given, that is the only one, and nothing is downloaded.

    Args:
        source: the data set.
        data_dir: the folder or archive given, if any.
        download: whether what is found nowhere may be downloaded.
    """

    def __init__(self, source: Source, data_dir: str | None, download: bool) -> None:
        self.source, self.download = source, download
        self.cache = Path(pooch.os_cache("ils_lightning")) / source.name
        named = [Path(place).expanduser() for place in [os.environ.get(VARIABLE)] if place]
        usual = [*named, *([source.system] if source.system else []), self.cache]
        self.given = Path(data_dir).expanduser() if data_dir else None
        self.places = [self.given] if self.given else usual
        self._failures: list[str] = []

    def obtain(self) -> None:
        """Downloads the files if they are found nowhere, and that is allowed.

        Raises:
            ValueError: when they can be had in no way; the text names the ways out.
        """
        if self._find() is not None:
            return
        if self.given or not self.download:
            raise Refusal(self._missing())
        for file in self.source.files:
            self._fetch(file)

    def load(self) -> Official:
        """Returns the images.

        Raises:
            ValueError: when they are found nowhere.
        """
        found = self._find()
        if found is None:
            raise Refusal(self._missing())
        return found

    def _find(self) -> Official | None:
        return next((found for place in self.places if (found := self.source.read(place)) is not None), None)

    def _fetch(self, file: str) -> None:
        """Downloads `file` from the first mirror that has it."""
        for mirror in self.source.mirrors:
            url = f"{mirror}{file}{self.source.suffix}"
            rank_zero_info(f"downloading {url} to {self.cache}")
            pooch.get_logger().setLevel("WARNING")  # it asks for digests to be written down, which are checked here
            try:
                pooch.retrieve(url, None, file + self.source.suffix, self.cache, downloader=self._checked(file))
                return
            except (OSError, ValueError) as error:  # failures of the network are OSErrors
                self._failures.append(f"{url}: {error}")
        raise Refusal(self._missing())

    def _checked(self, file: str) -> Any:
        """A download that fails, before it reaches the cache, unless what came is the published file."""
        plain = pooch.HTTPDownloader(timeout=_TIMEOUT)

        def download(url: str, output_file: str, pooch: Any) -> None:
            plain(url, output_file, pooch)
            self.source.content(Path(output_file), file)

        return download

    def _missing(self) -> str:
        source = self.source
        if self.given:
            why = "does not hold them" if self.given.exists() else "is not there"
            return (
                f"{source.name}: data_dir must hold {', '.join(source.files)} (or each with .gz), or "
                f"{source.name}.npz; {self.given} {why}. Without data_dir they are sought in {VARIABLE} and the cache, "
                "then downloaded"
            )
        failed = "; ".join(self._failures) or ("not tried yet" if self.download else "switched off")
        return (
            f"{source.name}: needs {', '.join(source.files)} (or each with .gz), or {source.name}.npz; looked in "
            f"{', '.join(map(str, self.places))}; download from {source.mirrors[0]}: {failed}. "
            f"Put the files into a folder and name it by data_dir or {VARIABLE}, "
            f"or run once with a network and download=true"
        )
