"""Damaged and foreign checkpoints and data."""

import gzip
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from fuzz_files import Content, put
from fuzz_options import SHORT, VAE
from hostile import Case, attempt

from ils_lightning.data.idx import to_idx
from ils_lightning.estimators import ILS

VERBS = ("validate", "test", "predict", "fit", "diagnose", "sample")
CHECKPOINT = "checkpoints/last.ckpt"
QUIET = [*SHORT, "--trainer.logger=false", "--trainer.enable_progress_bar=false"]


def trained(folder: Path) -> dict[str, bytes]:
    """Checkpoints of a toy and of an autoencoder, trained in folders below this one."""
    runs = {"toy": ["fit", *QUIET, "--model.chunk=1"], "vae": [*VAE, *QUIET, "--model.latents=2"]}
    found = {}
    for name, words in runs.items():
        (folder / name).mkdir()
        result = attempt(words, folder / name)
        if result.status != 0:
            raise RuntimeError(f"{name}: {result.errors}")
        found[name] = (folder / name / CHECKPOINT).read_bytes()
    return found


def changed(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A checkpoint of which something was changed."""
    checkpoint = torch.load(io.BytesIO(content), weights_only=True)
    change(checkpoint)
    return saved(checkpoint)


def saved(value: Any) -> bytes:
    """What torch.save makes of a value."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def cut(content: bytes, share: float) -> bytes:
    """The first part of a file."""
    return content[: int(share * len(content))]


def with_noise(content: bytes, start: float, chance: Random) -> bytes:
    """A file with 64 bytes overwritten."""
    place = int(start * (len(content) - 64))
    return content[:place] + chance.randbytes(64) + content[place + 64 :]


def damaged(toy: bytes, chance: Random) -> dict[str, Content]:
    """Files that are no checkpoints of a LightningModule."""
    files: dict[str, Content] = {f"first {share:.0%}": cut(toy, share) for share in (0.01, 0.3, 0.6, 0.9, 0.99)}
    files |= {"empty": b"", "folder": None, "text": "weights", "random": chance.randbytes(5000), "zeros": bytes(999)}
    files |= {f"noise at {place:.0%}": with_noise(toy, place, chance) for place in (0.0, 0.25, 1.0)}
    files |= {"zip": b"PK\x05\x06" + bytes(18), "gzip": gzip.compress(toy[:100]), "pickle": b"\x80\x04K\x07."}
    files |= {"module": saved({"state_dict": {}, "hyper_parameters": {"estimator": ILS()}}), "number": saved(7)}
    return files | {"list": saved([1]), "bare weights": saved({"logits": torch.zeros(5, 5)}), "nothing": saved({})}


def without(*keys: str) -> Callable[[dict[str, Any]], Any]:
    return lambda checkpoint: [checkpoint.pop(key, None) for key in keys]


def having(**entries: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda checkpoint: checkpoint.update(entries)


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], tuple[str, ...]]] = {
    "weights missing": (having(state_dict={}), ("logits",)),
    "weights of another name": (having(state_dict={"weights": torch.zeros(5, 5)}), ("weights",)),
    "weights of another shape": (having(state_dict={"logits": torch.zeros(2, 7)}), ("logits",)),
    "weights are text": (having(state_dict="logits"), ("state_dict",)),
    "weights are numbers": (having(state_dict={"logits": 7}), ("logits",)),
    "weights are nothing": (having(state_dict=None), ("state_dict",)),
    "configuration is text": (having(configuration="toy1"), ("configuration",)),
    "configuration is a list": (having(configuration=["model"]), ("configuration",)),
    "configuration names no class": (having(configuration={"model": {"class_path": "Missing"}}), ("Missing",)),
    "configuration runs a command": (having(configuration={"model": {"class_path": "os.system"}}), ("os.system",)),
    "configuration misspells": (having(configuration={"modle": {}}), ("modle",)),
    "configuration has a bad value": (
        having(
            configuration={"model": {"class_path": "CategoricalFit", "init_args": {"estimator": "ILS", "trials": -1}}}
        ),
        ("trials",),
    ),
}
OF_FIT: dict[str, Callable[[dict[str, Any]], Any]] = {
    "optimiser missing": without("optimizer_states"),
    "optimiser of another shape": having(optimizer_states=[7]),
    "loops are text": having(loops="x"),
}


def checkpoints(made: dict[str, bytes], chance: Random) -> Iterator[Case]:
    """Every verb that reads a checkpoint, on bad ones."""
    for verb in VERBS:
        words = [verb, "--ckpt_path=bad.ckpt"]
        for name, content in damaged(made["toy"], chance).items():
            yield Case(f"{verb}: checkpoint: {name}", words, ("bad.ckpt",), partial(put, "bad.ckpt", content))
        for name in ("nothing.ckpt", "no/folder/last.ckpt", "last", "best", "é.ckpt", "a" * 300):
            yield Case(f"{verb}: checkpoint {name[:9]}", [verb, f"--ckpt_path={name}"], (name[:40],))
        for name, (change, named) in CHANGES.items():
            content = changed(made["toy"], change)
            named = named if verb != "sample" else ()
            yield Case(f"{verb}: {name}", words, named, partial(put, "bad.ckpt", content))
    for verb in VERBS[:-1]:
        words = [verb, "--config=vae_digits", "--ckpt_path=toy.ckpt"]
        yield Case(f"{verb}: checkpoint of another model", words, ("logits",), partial(put, "toy.ckpt", made["toy"]))
        larger = [verb, "--ckpt_path=vae.ckpt", "--model.latents=3"]
        yield Case(f"{verb}: checkpoint of a smaller model", larger, (), partial(put, "vae.ckpt", made["vae"]))
    for verb in ("validate", "test", "predict", "sample"):
        yield Case(f"{verb} without a checkpoint", [verb], ("ckpt_path",))
    for name, change in OF_FIT.items():
        content = changed(made["toy"], change)
        yield Case(f"fit: {name}", ["fit", "--ckpt_path=bad.ckpt"], (), partial(put, "bad.ckpt", content))
    prior = ["fit", "--config=code_prior_digits", "--model.tokenizer=bad.ckpt"]
    for name, content in damaged(made["toy"], chance).items():
        yield Case(f"tokeniser: {name}", prior, ("tokenizer",), partial(put, "bad.ckpt", content))
    yield Case("tokeniser of another kind", prior, ("tokenizer",), partial(put, "bad.ckpt", made["toy"]))
    for option in ("--count=99999999999999999", "--seed=99999999999999999999999", "--output=no.txt", "--images=x.jpg"):
        words = ["sample", "--ckpt_path=vae.ckpt", option]
        yield Case(f"sample {option}", words, (option[2:6],), partial(put, "vae.ckpt", made["vae"]))


def array(value: Any) -> bytes:
    """A .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=True)
    return buffer.getvalue()


def archive(**arrays: Any) -> bytes:
    """A .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


GREY = np.zeros((9, 8, 8), dtype=np.uint8)
FILES: dict[str, dict[str, Content]] = {
    "x.npy": {
        "text": "image",
        "empty": b"",
        "cut": cut(array(GREY), 0.5),
        "float": array(GREY.astype(float)),
        "flat": array(GREY.reshape(9, 64)),
        "none": array(GREY[:0]),
        "few": array(GREY[:1]),
        "objects": array(np.array([{}, {}])),
        "random": Random(0).randbytes(500),
        "folder": None,
    },
    "x.npz": {
        "empty": b"",
        "text": "image",
        "cut": cut(archive(x=GREY), 0.5),
        "no x": archive(y=GREY),
        "labels": archive(x=GREY, y=np.zeros(3)),
        "labels of text": archive(x=GREY, y=np.array(["a"] * 9)),
        "objects": archive(x=np.array([{}])),
        "noise": with_noise(archive(x=GREY), 0.5, Random(0)),
    },
    "x/1.png": {"text": "image", "empty": b"", "cut": b"\x89PNG\r\n\x1a\n", "random": Random(1).randbytes(99)},
    "x": {"empty folder": None, "a file": b""},
    "x/a/b/1.png": {"too deep": b""},
}
LINES: dict[str, Content] = {
    "empty": "",
    "words": "hello",
    "no label": "[MIN 1 2 ]",
    "label of text": "x\t[MIN 1 2 ]",
    "wrong label": "9\t[MIN 1 2 ]",
    "open": "1\t[MIN 1 2",
    "unknown operator": "1\t[MINN 1 2 ]",
    "too long": f"1\t{'[MIN 1 ' * 30}2 {'] ' * 30}",
    "nested": f"1\t{'[MIN 1 ' * 5000}2 {'] ' * 5000}",
    "binary": bytes(range(256)),
    "folder": None,
}
IDX = to_idx(np.zeros((3, 28, 28), dtype=np.uint8))


def data() -> Iterator[Case]:
    """Data files that are missing, damaged, or others than they should be."""
    own = [*VAE, "--data=ImageFiles"]
    for name, contents in FILES.items():
        for what, content in contents.items():
            path = name.split("/")[0]
            yield Case(f"{name}: {what}", [*own, f"--data.path={path}"], ("x",), partial(put, name, content))
    for path in ("nothing", "nothing.npy", "no/such/folder", "", "é", "x\ty"):
        yield Case(f"images in {path!r}", [*own, f"--data.path={path}"], ("ImageFiles",))
    listops = ["fit", "--config=listops", *SHORT]
    for what, content in LINES.items():
        words = [*listops, "--data.test_file=lines.tsv"]
        yield Case(
            f"lines.tsv: {what}", words, ("lines.tsv",) if content != "" else (), partial(put, "lines.tsv", content)
        )
    for what, content in {"text": b"1", "cut": gzip.compress(b"1\t[MIN 1 2 ]" * 99)[:20], "empty": b""}.items():
        words = [*listops, "--data.test_file=lines.tsv.gz"]
        yield Case(f"lines.tsv.gz: {what}", words, ("lines",), partial(put, "lines.tsv.gz", content))
    yield Case("no lines.tsv", [*listops, "--data.test_file=no.tsv"], ("no.tsv",))
    mnist = [*VAE, "--data=ImageData", "--data.download=false", "--data.data_dir=mnist"]
    yield Case("no folder of images", mnist, ("data_dir",))
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"):
        yield Case(f"{name} alone", mnist, ("data_dir",), partial(put, f"mnist/{name}", IDX))
    for what, content in {"wrong": IDX, "damaged": gzip.compress(IDX)[:40], "empty": b"", "zip": b"\x1f\x8bx"}.items():
        yield Case(f"checksum: {what}", mnist, ("train-images-idx3-ubyte",), partial(put_mnist, content))
    for what, arrays in {
        "keys": {"x": GREY},
        "shape": dict.fromkeys(("train_x", "train_y", "test_x", "test_y"), GREY),
    }.items():
        yield Case(f"mnist.npz: {what}", mnist, ("mnist",), partial(put, "mnist/mnist.npz", archive(**arrays)))
    yield Case("mnist.npz: text", mnist, ("mnist.npz",), partial(put, "mnist/mnist.npz", "images"))
    yield Case("mnist.npz: empty", mnist, ("mnist.npz",), partial(put, "mnist/mnist.npz", b""))


def put_mnist(content: bytes, folder: Path) -> None:
    """Four files in the place of MNIST's, all of this content."""
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            put(f"mnist/{part}-{kind}-ubyte", content, folder)
