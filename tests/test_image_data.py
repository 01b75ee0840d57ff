"""Images by name: where files are sought, in which forms, how they are downloaded (from a server on this machine)."""

import gzip
import os
import re
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from ils_lightning.data import ImageData, storage
from ils_lightning.data.catalogue import CATALOGUE, OMNIGLOT
from ils_lightning.data.idx import from_idx, to_idx
from ils_lightning.data.source import digest

_RANDOM = np.random.default_rng(0)
ARRAYS = {
    "train_x": _RANDOM.integers(0, 256, (20, 4, 3), dtype=np.uint8),
    "train_y": _RANDOM.integers(0, 10, 20, dtype=np.uint8),
    "test_x": _RANDOM.integers(0, 256, (6, 4, 3), dtype=np.uint8),
    "test_y": _RANDOM.integers(0, 10, 6, dtype=np.uint8),
}
FILES = dict(zip(CATALOGUE["mnist"].files, map(to_idx, ARRAYS.values()), strict=True))


class Quiet(SimpleHTTPRequestHandler):
    """A file server that keeps no log."""

    def log_message(self, format, *args):
        del format, args


def write(folder: Path, compressed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def mnist(monkeypatch, tmp_path):
    """Lets mnist be a small synthetic set that no mirror has, and the cache an empty folder."""
    files = {name: digest(content, "sha256") for name, content in FILES.items()}
    small = replace(CATALOGUE["mnist"], files=files, mirrors=("http://127.0.0.1:9/",), validation=4)
    monkeypatch.setitem(CATALOGUE, "mnist", small)
    monkeypatch.setattr(storage.pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.delenv(storage.VARIABLE, raising=False)
    return small


@pytest.fixture
def server(monkeypatch, mnist, tmp_path):
    """Serves the folder it returns as the second mirror; the first answers nothing."""
    served = tmp_path / "served"
    served.mkdir()
    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    thread = Thread(target=web.serve_forever)
    thread.start()
    mirrors = (*mnist.mirrors, f"http://127.0.0.1:{web.server_port}/")
    monkeypatch.setitem(CATALOGUE, "mnist", replace(mnist, mirrors=mirrors))
    yield served
    web.shutdown()
    thread.join()
    web.server_close()


def assert_is_the_set(data: ImageData) -> None:
    data.prepare_data()
    data.setup("fit")
    train, val, test = data.splits
    assert [len(train), len(val), len(test)] == [16, 4, 6]
    assert data.image_shape == (1, 4, 3)
    assert np.array_equal(torch.cat([train.pixels, val.pixels]).squeeze(1), ARRAYS["train_x"])
    assert np.array_equal(torch.cat([train.label, val.label]), ARRAYS["train_y"])
    assert np.array_equal(test.pixels.squeeze(1), ARRAYS["test_x"])
    assert np.array_equal(test.label, ARRAYS["test_y"])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("below", [".", "MNIST/raw", "mnist"])
def test_files_are_found_plain_or_compressed_in_known_layouts(tmp_path, below, compressed):
    write(tmp_path / "data" / below, compressed)
    assert_is_the_set(ImageData("mnist", str(tmp_path / "data"), download=False))


@pytest.mark.parametrize("given", [".", "mnist.npz"])
def test_an_archive_is_found_by_its_folder_or_itself(tmp_path, given):
    np.savez(tmp_path / "mnist.npz", **ARRAYS)
    assert_is_the_set(ImageData("mnist", str(tmp_path / given), download=False))


def test_the_environment_variable_names_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(storage.VARIABLE, str(write(tmp_path / "environment")))
    assert_is_the_set(ImageData("mnist", download=False))
    assert ImageData("mnist").storage.places == [tmp_path / "environment", tmp_path / "cache/ils_lightning/mnist"]


@pytest.mark.parametrize(("made", "why"), [(False, "is not there"), (True, "does not hold them")])
def test_a_folder_that_is_given_is_the_only_one(made, why, tmp_path, monkeypatch, server):
    write(server, compressed=True)
    monkeypatch.setenv(storage.VARIABLE, str(write(tmp_path / "environment")))
    given = tmp_path / "given"
    (given if made else tmp_path).mkdir(exist_ok=True)
    data = ImageData("mnist", str(given))
    for step in (data.prepare_data, data.load):
        with pytest.raises(ValueError, match=rf"mnist: data_dir must hold .*, or mnist.npz; {given} {why}\. Without"):
            step()


def test_debian_s_folder_is_looked_into_for_fashion_only(tmp_path, monkeypatch, mnist):
    system = write(tmp_path / "system", compressed=True)
    monkeypatch.setitem(CATALOGUE, "fashion_mnist", replace(mnist, name="fashion_mnist", system=system))
    assert_is_the_set(ImageData("fashion_mnist", download=False))
    with pytest.raises(ValueError, match="mnist: needs"):
        ImageData("mnist", download=False).prepare_data()


def test_download_fills_the_cache_from_the_next_mirror_that_answers(server, monkeypatch):
    write(server, compressed=True)
    assert_is_the_set(ImageData("mnist"))
    for file in server.iterdir():
        file.unlink()
    assert_is_the_set(ImageData("mnist"))


def test_a_download_of_other_content_is_refused_and_not_kept(server, tmp_path):
    write(server, compressed=True)
    first = next(iter(FILES))
    (server / f"{first}.gz").write_bytes(gzip.compress(FILES[first][:-1] + b"?"))
    with pytest.raises(ValueError, match=rf"is not mnist's {first}: its content has sha256:\w+, not sha256:"):
        ImageData("mnist").prepare_data()
    assert list((tmp_path / "cache/ils_lightning/mnist").iterdir()) == []


def test_offline_error_names_everything_and_the_two_ways_out(tmp_path):
    data = ImageData("mnist")
    with pytest.raises(ValueError, match="mnist: needs") as error:
        data.prepare_data()
    text = str(error.value)
    first = next(iter(FILES))
    expected = [*FILES, str(tmp_path / "cache"), f"http://127.0.0.1:9/{first}.gz: "]
    expected += ["data_dir", storage.VARIABLE, "download=true"]
    assert [part for part in expected if part not in text] == []
    assert "\n" not in text


def test_download_can_be_switched_off(server):
    write(server, compressed=True)
    with pytest.raises(ValueError, match="switched off"):
        ImageData("mnist", download=False).prepare_data()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"something else", "is not mnist's train-images-idx3-ubyte"),
        (b"\x1f\x8bdamaged", "is a damaged .gz file"),
        (gzip.compress(FILES["train-images-idx3-ubyte"])[:-9], "is a damaged .gz file"),
    ],
)
def test_files_of_other_content_are_refused(tmp_path, content, message):
    (write(tmp_path) / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        ImageData("mnist", str(tmp_path)).prepare_data()


def test_archives_of_other_content_are_refused(tmp_path):
    np.savez(tmp_path / "mnist.npz", **(ARRAYS | {"train_x": 255 - ARRAYS["train_x"]}))
    with pytest.raises(ValueError, match=r"mnist.npz is not mnist's train-images-idx3-ubyte"):
        ImageData("mnist", str(tmp_path)).prepare_data()
    np.savez(tmp_path / "mnist.npz", train_x=ARRAYS["train_x"])
    with pytest.raises(ValueError, match="missing: train_y, test_x, test_y"):
        ImageData("mnist", str(tmp_path)).prepare_data()


def test_omniglot_is_upright_rounded_and_in_the_published_order(tmp_path, monkeypatch):
    io = pytest.importorskip("scipy.io")
    images = _RANDOM.integers(0, 256, (9, 28, 28), dtype=np.uint8)
    columns = (images.swapaxes(1, 2).reshape(9, -1) / 255).T
    one_hot = np.eye(5)[:, [0, 1, 2, 3, 4, 0]]
    arrays = {"data": columns[:, :6], "target": one_hot, "testdata": columns[:, 6:], "testtarget": one_hot[:, :3]}
    io.savemat(tmp_path / "chardata.mat", arrays)
    content = (tmp_path / "chardata.mat").read_bytes()
    files = {"chardata.mat": digest(content, "git")}
    monkeypatch.setitem(CATALOGUE, "omniglot", replace(OMNIGLOT, files=files))
    train, val, test = ImageData("omniglot", str(tmp_path), validation=2).splits
    order = np.random.RandomState(123).permutation(6)
    assert np.array_equal(torch.cat([train.pixels, val.pixels]).squeeze(1), images[order])
    assert np.array_equal(torch.cat([train.label, val.label]), order % 5)
    assert np.array_equal(test.pixels.squeeze(1), images[6:])
    np.savez(tmp_path / "omniglot.npz", train_x=images[:6], test_x=images[6:])
    again = ImageData("omniglot", str(tmp_path), validation=2).splits
    assert torch.equal(again.train.pixels, train.pixels)
    assert set(again.train.label.tolist()) == {-1}


def test_git_digest_is_the_name_git_gives():
    assert digest(b"hello\n", "git") == "git:ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x0d\x01\x00\x00\x00\x01?", to_idx(ARRAYS["train_y"])[:-1]])
def test_what_is_no_idx_file_of_bytes_is_refused(content):
    with pytest.raises(ValueError, match="an IDX file"):
        from_idx(content)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "emnist"}, "name must be one of mnist, fashion_mnist, omniglot; given 'emnist'"),
        ({"validation": 20}, "validation must be from 0 to 19 of the training images; given 20"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    write(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageData(**{"data_dir": str(tmp_path), "name": "mnist"} | options).setup("fit")


def test_real_mnist_has_the_published_content(monkeypatch):
    path = os.environ.get("ILS_LIGHTNING_TEST_MNIST")
    if path is None:
        pytest.skip("ILS_LIGHTNING_TEST_MNIST names no folder or archive with the real MNIST")
    monkeypatch.undo()
    data = ImageData("mnist", path, validation=0, download=False)
    assert data.summary()["images"] == "60,000 train, 0 validation, 10,000 test of 1x28x28"
    assert data.pixel_mean.mean().item() == pytest.approx(0.1307, abs=5e-5)
