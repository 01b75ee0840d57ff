"""Files that unpack to more than they should are read no further."""

import gzip
from pathlib import Path

import pytest

from ils_lightning.data import ListOps, compressed
from ils_lightning.data.catalogue import CATALOGUE


def test_plain_and_compressed_content_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"12345")
    (tmp_path / "packed").write_bytes(gzip.compress(b"123") + gzip.compress(b"45"))
    assert [compressed.read(tmp_path / name, 5) for name in ("plain", "packed")] == [b"12345"] * 2
    for name in ("plain", "packed"):
        with pytest.raises(ValueError, match=f"{name} holds more than the 4 bytes that are read"):
            compressed.read(tmp_path / name, 4)


def test_no_more_is_unpacked_than_is_read(tmp_path: Path) -> None:
    damaged_later = bytearray(gzip.compress(bytes(10_000_000), 1))
    damaged_later[-20_000:] = bytes(20_000)
    (tmp_path / "x.gz").write_bytes(damaged_later)
    with pytest.raises(ValueError, match="holds more than"):
        compressed.read(tmp_path / "x.gz", 1000)
    with pytest.raises(ValueError, match=r"is a damaged \.gz file"):
        compressed.read(tmp_path / "x.gz")


def test_data_are_read_within_that_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed.read, "__defaults__", (1000,))
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(2000)))
    with pytest.raises(ValueError, match="holds more than the 1,000 bytes"):
        CATALOGUE["mnist"].content(path, "train-images-idx3-ubyte")
    with pytest.raises(ValueError, match="holds more than the 1,000 bytes"):
        ListOps(test_file=str(path)).setup("test")
