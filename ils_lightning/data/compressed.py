"""Files that may be compressed, read only as far as their content can be what it should be."""

import gzip
import zlib
from pathlib import Path

from ils_lightning.errors import Refusal

LARGEST = 2**28
"""Bytes of content that are read: five times the largest published file, and few for any machine."""


def read(path: Path, largest: int = LARGEST) -> bytes:
    """Returns what a file holds, decompressed where it is a .gz file by its first bytes.

    Raises:
        ValueError: when it is damaged, or holds more than `largest` bytes.
    """
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            content = (gzip.GzipFile(fileobj=file) if compressed else file).read(largest + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise Refusal(f"{path} is a damaged .gz file: {error}") from None
    if len(content) > largest:
        raise Refusal(f"{path} holds more than the {largest:,} bytes that are read")
    return content
