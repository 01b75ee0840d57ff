"""The user's own images: folders and arrays."""

import re

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from ils_lightning.data import ImageFiles

_RANDOM = np.random.default_rng(0)


def folder(path, count: int, size: tuple[int, int] = (5, 4)):
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(np.full((*size, 3), number, dtype=np.uint8)).save(path / f"{number:02}.png")
    return path


def everything(data: ImageFiles) -> tuple[list[int], list[int]]:
    pixels = torch.cat([split.pixels[:, 0, 0, 0] for split in data.splits])
    return pixels.tolist(), torch.cat([split.label for split in data.splits]).tolist()


@pytest.mark.parametrize(("color", "channels"), [("grey", 1), ("rgb", 3)])
def test_folder_without_classes(tmp_path, color, channels):
    (folder(tmp_path, 20) / "notes.txt").write_text("no image")
    data = ImageFiles(str(tmp_path), color=color)
    assert data.image_shape == (channels, 5, 4)
    assert [len(split) for split in data.splits] == [16, 2, 2]
    pixels, labels = everything(data)
    assert sorted(pixels) == list(range(20))
    assert set(labels) == {-1}
    assert next(iter(data.train_dataloader())).x.shape == (16, channels, 5, 4)


def test_images_stand_as_the_camera_was_held(tmp_path):
    turned = Image.Exif()
    turned[274] = 6  # orientation: a quarter turn
    for number in range(20):
        Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(tmp_path / f"{number}.jpg", exif=turned)
    assert ImageFiles(str(tmp_path)).image_shape == (1, 6, 4)


def test_folders_below_are_classes(tmp_path):
    folder(tmp_path / "b", 6)
    folder(tmp_path / "a", 4)
    _, labels = everything(ImageFiles(str(tmp_path)))
    assert sorted(labels) == [0] * 4 + [1] * 6


def test_split_depends_on_its_own_seed_alone(tmp_path):
    folder(tmp_path, 20)
    one, same, other = (
        everything(ImageFiles(str(tmp_path), seed=seed, split_seed=split)) for seed, split in ((0, 0), (1, 0), (0, 1))
    )
    assert one == same
    assert one != other


def test_images_are_resized_where_asked(tmp_path):
    folder(tmp_path, 9)
    folder(tmp_path / "x", 1, (9, 9)).joinpath("00.png").rename(tmp_path / "99.png")
    (tmp_path / "x").rmdir()
    assert ImageFiles(str(tmp_path), size=(8, 6)).image_shape == (1, 8, 6)
    with pytest.raises(ValueError, match=re.escape("00.png has [5, 4], 99.png has [9, 9]")):
        ImageFiles(str(tmp_path)).setup("fit")


@pytest.mark.parametrize(
    ("shape", "expected"), [((10, 5, 4), (1, 5, 4)), ((10, 3, 5, 4), (3, 5, 4)), ((10, 5, 4, 3), (3, 5, 4))]
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays(tmp_path, shape, expected, suffix):
    x = _RANDOM.integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / f"mine.{suffix}"
    np.save(path, x) if suffix == "npy" else np.savez(path, x=x, y=np.arange(10))
    data = ImageFiles(str(path))
    assert data.image_shape == expected
    assert sum(split.pixels.sum(dtype=torch.long) for split in data.splits) == x.sum(dtype=int)
    assert sorted(everything(data)[1]) == ([-1] * 10 if suffix == "npy" else list(range(10)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((10, 4, 4))}, "images must be uint8"),
        ({"x": np.zeros((10, 4), dtype=np.uint8)}, "given uint8 [10, 4]"),
        ({"x": np.zeros((10, 4, 4), dtype=np.uint8), "y": np.zeros(9)}, "one label an image, [10]; given [9]"),
        ({"images": np.zeros((10, 4, 4), dtype=np.uint8)}, "must hold images named x; given images"),
        ({"x": np.zeros((2, 4, 4), dtype=np.uint8)}, "2 images are too few"),
    ],
)
def test_unfit_arrays_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageFiles(str(tmp_path / "mine.npz")).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "there are no images in"),
        ({"path": "nowhere"}, "path must be a folder of images or a .npy or .npz file; given nowhere"),
        ({"color": "blue"}, "color must be one of grey, rgb; given 'blue'"),
        ({"validation": 0.5, "test": 0.5}, "shares that leave images for training; given 0.5 and 0.5"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageFiles(**{"path": str(tmp_path)} | options).setup("fit")


def test_images_of_more_than_eight_bits_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"must have 8 bits a channel; deep\.png has mode I"):
        _ = ImageFiles(str(tmp_path)).splits


@pytest.fixture
def started(tmp_path, monkeypatch):
    """The file that programs make which Pillow may start."""
    (tmp_path / "programs").mkdir()
    for name in ("gs", "gswin64c", "djpeg"):
        program = tmp_path / "programs" / name
        program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "programs"), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # to be looked for again
    return tmp_path / "started"


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["0.png", "0.jpg", "0.gif"])
def test_no_image_starts_a_program_whatever_it_holds(tmp_path, started, name):
    images = folder(tmp_path / "images", 3)
    (images / name).write_bytes(POSTSCRIPT)
    with pytest.raises(ValueError, match=f"{name} is no image that can be read"):
        ImageFiles(str(images)).setup("fit")
    assert not started.exists()


@pytest.mark.parametrize("name", ["0.eps", "0.ps", "0.pdf", "0.fit"])
def test_files_of_other_formats_are_no_images(tmp_path, started, name):
    images = folder(tmp_path / "images", 3)
    (images / name).write_bytes(POSTSCRIPT)
    assert len(everything(ImageFiles(str(images)))[0]) == 3
    assert not started.exists()


@pytest.mark.slow
@pytest.mark.parametrize("size", [13_000, 20_000])
def test_an_image_that_unpacks_to_more_than_is_sensible_is_refused(tmp_path, size):
    Image.new("1", (size, size)).save(tmp_path / "0.png")  # a few kilobytes on the disk
    with pytest.raises(ValueError, match=f"{size**2} pixels"):
        ImageFiles(str(tmp_path)).setup("fit")
