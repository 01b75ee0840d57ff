"""Configuration files, by path or by the name of one that is packaged, and what each of them describes."""

import functools
from os.path import isdir, isfile  # which are False of a text too long for a path
from pathlib import Path
from typing import Any, Literal

import ils_lightning
from ils_lightning import documents
from ils_lightning.errors import Refusal, did_you_mean, listed

Kind = Literal["run", "comparison", "estimator"]

_FOLDERS: dict[Kind, str] = {"comparison": "compare/", "estimator": "estimators/"}
_USES = {
    "run": "one run; give it as: fit --config {}",
    "comparison": "a comparison; run it by: compare {}",
    "estimator": "one object, such as an estimator; give it as --model.estimator {}",
}
_SECTIONS = {"model", "data", "trainer"}


@functools.cache
def folder() -> Path:
    """The packaged configurations: inside an installed package, beside the package in a checkout."""
    package = Path(ils_lightning.__file__).parent
    return next((path for path in (package / "configs", package.parent / "configs") if path.is_dir()), package)


def names(kind: Kind = "run") -> list[str]:
    """Names of the packaged configurations of a kind: paths under their folder without the suffix.

    Example:
        >>> names("comparison")[0]
        'compare/listops'
    """
    found = (path.relative_to(folder()).with_suffix("").as_posix() for path in folder().rglob("*.yaml"))
    own, others = _FOLDERS.get(kind, ""), tuple(name for of, name in _FOLDERS.items() if of != kind)
    return sorted(name for name in found if name.startswith(own) and not name.startswith(others))


def find(name: str, kind: Kind = "run") -> Path:
    """Returns the file `name`, or the packaged configuration of that name, of whatever kind.

    Raises:
        ValueError: when there is neither; the text lists the packaged ones of the kind that is asked for.
    """
    bare = name.removesuffix(".yaml").removeprefix("configs/")
    if isfile(name):
        return Path(name)
    if bare and isfile(path := folder() / f"{bare}.yaml"):
        return path
    if isdir(name):
        raise Refusal(f"{name!r} is a folder, not a configuration file")
    for meant, start in _FOLDERS.items():
        kind = meant if bare.startswith(start) else kind
    known = names(kind)
    raise Refusal(
        f"there is no file {name!r} and no packaged configuration of that name{did_you_mean(bare, known)}; "
        f"packaged: {listed(known, bare)}"
    )


def load(name: str, kind: Kind = "run") -> dict[str, Any]:
    """Returns what such a file says.

    Raises:
        ValueError: when there is none, when it cannot be read, or when it describes another kind of thing.
    """
    content = read(find(name, kind), name)
    if (found := described(content)) not in (kind, None):
        near = f"{_FOLDERS.get(kind, '')}{name}"
        hint = f"; the packaged {kind} is {near}" if near in names(kind) else ""
        raise Refusal(f"{name!r} describes {_USES[str(found)].format(name)}{hint}")
    return content


def described(content: dict[str, Any]) -> Kind | None:
    """What a configuration describes; None where nothing tells.

    Example:
        >>> described({"title": "ours", "base": "vae_digits", "runs": []}), described({"class_path": "ReinMax"})
        ('comparison', 'estimator')
    """
    if "class_path" in content:
        return "estimator"
    if {"runs", "base"} & set(content):
        return "comparison"
    return "run" if _SECTIONS & set(content) else None


def read(path: Path, name: str) -> dict[str, Any]:
    """Returns the mapping that a file holds.

    Raises:
        ValueError: when it cannot be read or holds anything else; the text calls it `name`.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) == b"PK":  # of a zip archive, which torch writes
                raise Refusal(f"{name!r} is a checkpoint, not a configuration; give it as --ckpt_path {name}")
        content = documents.read(path.read_text(encoding="utf-8"), repr(name))
    except OSError as error:
        raise Refusal(f"{name!r} is not readable: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise Refusal(f"{name!r} is not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise Refusal(f"{name!r} must hold a mapping (of keys to values); given {type(content).__name__}")
    return content
