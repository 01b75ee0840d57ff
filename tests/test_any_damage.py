"""Checkpoints and data damaged anywhere: every verb serves them, or refuses in one line and leaves nothing behind."""

import copy
import io
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import fuzz_damage
import numpy as np
import pytest
import torch
from fuzz_files import put
from hostile import Case, attempt, complaints
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

pytestmark = pytest.mark.long

# without shrinking, which would run each command a hundred times more
TRIED = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[*HealthCheck],
)
BRIEF = {"diagnose": ["--draws=32", "--settle=2", "--estimators=[ReinMax]"]}
"""Options by which a verb that serves the file is soon done."""
VALUES = some.one_of(
    some.none(),
    some.booleans(),
    some.integers(-(2**70), 2**70),
    some.floats(),
    some.text(max_size=8),
    some.just([]),
    some.just({}),
    some.builds(torch.zeros, some.lists(some.integers(0, 3), max_size=3)),
    some.builds(torch.full, some.just((5, 5)), some.sampled_from([float("nan"), float("inf")])),
)
BYTES = some.tuples(some.floats(0, 1), some.binary(max_size=40))
ARRAYS = some.builds(
    lambda shape, dtype, value: np.full(shape, value).astype(dtype),
    some.lists(some.integers(0, 12), max_size=5) | some.lists(some.integers(1, 12), min_size=3, max_size=4),
    some.just("uint8") | some.sampled_from(["int64", "float32", "float64", "bool", "complex64", "U3"]),
    some.integers(0, 255),
)


class Files(dict[str, bytes]):
    """Contents of files by name; a report of a failure names them only."""

    def __repr__(self) -> str:
        return f"Files of {', '.join(self)}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(fuzz_damage.trained(tmp_path_factory.mktemp("trained")))


def places(tree: Any, path: tuple = ()) -> list[tuple]:
    """Paths to everything inside dictionaries and lists of a checkpoint."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [found for key, value in inside for found in ((*path, key), *places(value, (*path, key)))]


def replaced(tree: Any, path: tuple, value: Any) -> Any:
    """The tree with another value at a path."""
    tree = copy.deepcopy(tree)
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return tree


def wrong(words: list[str], file: str, content: bytes, folder: Path) -> list[str]:
    """What is wrong with how a command takes a file; nothing where it serves it without a traceback."""
    mine = Path(mkdtemp(dir=folder))
    put(file, content, mine)
    found = attempt(words, mine)
    shutil.rmtree(mine)
    refused = complaints(Case("damage", words), found)
    refused = [one for one in refused if one == "traceback"] if found.status == 0 else refused
    return [*refused, *found.errors[-1:]] if refused else []


@TRIED
@given(some.sampled_from(["test", "predict", "fit", "diagnose", "validate"]), some.floats(0, 0.9999), VALUES)
def test_checkpoints_with_another_value_anywhere(
    trained: dict[str, bytes], tmp_path: Path, verb: str, place: float, value: Any
):
    checkpoint = torch.load(io.BytesIO(trained["toy"]), weights_only=True)
    known = places(checkpoint)
    path = known[int(place * len(known))]
    content = fuzz_damage.saved(replaced(checkpoint, path, value))
    words = [verb, "--ckpt_path=bad.ckpt", *BRIEF.get(verb, [])]
    assert wrong(words, "bad.ckpt", content, tmp_path) == [], (verb, path, value)


@TRIED
@given(some.sampled_from(["test", "fit", "diagnose"]), some.floats(0, 1), BYTES)
def test_checkpoints_cut_and_overwritten(
    trained: dict[str, bytes], tmp_path: Path, verb: str, length: float, noise: tuple[float, bytes]
):
    content = fuzz_damage.cut(trained["toy"], max(length, 0.5) if noise[1] else length)
    place = int(noise[0] * len(content))
    content = content[:place] + noise[1] + content[place + len(noise[1]) :]
    assert wrong([verb, "--ckpt_path=bad.ckpt"], "bad.ckpt", content, tmp_path) == []


@TRIED
@given(ARRAYS)
def test_images_of_any_shape_and_type(tmp_path: Path, array: np.ndarray):
    words = [*fuzz_damage.VAE, *fuzz_damage.QUIET, "--data=ImageFiles", "--data.path=x.npy"]
    assert wrong(words, "x.npy", fuzz_damage.array(array), tmp_path) == [], (array.shape, array.dtype)
