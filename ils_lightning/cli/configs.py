"""Where configurations come from: files, names of packaged files, and the embedded default of `fit`."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import ils_lightning
from ils_lightning.cli import documents
from ils_lightning.cli.errors import did_you_mean, fail, listed
from ils_lightning.cli.types import class_at
from ils_lightning.errors import Refusal

DEFAULT = "toy1"
_DEFAULT_MODEL = "CategoricalFit"
_FOR_ANY_MODEL = ("num_sanity_val_steps", "enable_model_summary")
_OF_DESCRIPTIONS = ("class_path", "init_args", "dict_kwargs")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_OTHERS = ("compare/", "estimators/")  # comparisons, and parts for --model.estimator


@functools.cache
def folder() -> Path:
    """The packaged configurations: inside an installed package, beside the package in a checkout."""
    package = Path(ils_lightning.__file__).parent
    return next((path for path in (package / "configs", package.parent / "configs") if path.is_dir()), package)


def names() -> list[str]:
    """Names by which packaged configurations of runs are found: paths under their folder without the suffix."""
    found = (path.relative_to(folder()).with_suffix("").as_posix() for path in folder().rglob("*.yaml"))
    return sorted(name for name in found if not name.startswith(_OTHERS))


def find(name: str) -> str:
    """Returns the path of the file `name`, or of the packaged configuration of that name.

    A configuration given as text (YAML or JSON of a mapping) is returned as it is.
    """
    if "://" in name or name.lstrip().startswith("{"):
        return name
    if Path(name).is_file():
        return _readable(name)
    bare = name.removesuffix(".yaml").removeprefix("configs/")
    if bare.startswith("estimators/"):
        find_part(bare)
    if bare.startswith(_OTHERS):
        fail(f"--config: {name!r} is {_use(bare)}")
    if bare in names():
        return str(folder() / f"{bare}.yaml")
    return fail(
        f"--config: there is no file {name!r} and no packaged configuration of that name{did_you_mean(bare, names())}; "
        f"packaged: {listed(names(), bare)}"
    )


def _use(name: str) -> str:
    """Says where the packaged part `name` belongs."""
    if name.startswith("compare/"):
        return f"a comparison; run it by: compare {name}"
    return f"the settings of one estimator; give it as --model.estimator {name}"


def _readable(path: str) -> str:
    """Returns the path of a file that holds a YAML mapping; else exits."""
    try:
        content = documents.read(Path(path).read_text(encoding="utf-8"), f"--config: {path!r}")
    except OSError as error:
        fail(f"--config: {path!r} is not readable: {error}")
    except UnicodeDecodeError as error:
        fail(f"--config: {path!r} is not readable as YAML: {error}")
    except Refusal as refusal:
        fail(str(refusal))
    if isinstance(content, dict) and "class_path" in content:
        fail(f"--config: {path!r} describes one object, such as an estimator; give it as --model.estimator {path}")
    if not isinstance(content, dict):
        fail(f"--config: {path!r} must hold a mapping (model: ..., data: ..., trainer: ...)")
    for key, keys in _descriptions(content):
        if unknown := [name for name in keys if name not in _OF_DESCRIPTIONS]:
            fail(
                f"--config: {path!r}: beside class_path stands init_args; {key} has {unknown[0]!r}"
                f"{did_you_mean(str(unknown[0]), _OF_DESCRIPTIONS)}"
            )
    return path


def _descriptions(content: Any, key: str = "") -> Iterator[tuple[str, list]]:
    """Yields place and keys of every mapping that names a class."""
    if isinstance(content, dict):
        if "class_path" in content:
            yield key, list(content)
        for name, value in content.items():
            yield from _descriptions(value, f"{key}.{name}".strip("."))
    elif isinstance(content, list):
        for value in content:
            yield from _descriptions(value, key)


def require_values(words: list[str]) -> None:
    """Exits when an option that takes a value stands without one, or with one that is larger than it looks."""
    for word, after in zip(words, [*words[1:], "--"], strict=True):
        alone = word in ("--help", "--print_config") or word.endswith(".help") or "=" in word
        if word.startswith("--") and after.startswith("--") and not alone:
            fail(f"{word} needs a value")
        if "&" in word and "*" in word:  # YAML that repeats itself
            _read(word.partition("=")[2] if word.startswith("--") else word, word.partition("=")[0][:40])


def named_classes(words: list[str]) -> set[str]:
    """Imports the classes that the words, and the files among them, give by dotted names, and returns these names."""
    values = [word.partition("=")[2] if word.startswith("--") else word for word in words]
    names = {value for value in values if _DOTTED.fullmatch(value) and not Path(value).exists()}
    for value in values:
        if value.endswith((".yaml", ".yml")) and Path(value).is_file():
            value = Path(value).read_text(encoding="utf-8", errors="replace")
        elif not value.lstrip().startswith(("{", "[")):
            continue
        names |= set(_class_paths(_read(value, "a word")))
    for name in names:
        class_at(name)
    return names


def _class_paths(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        if isinstance(name := content.get("class_path"), str):
            yield name
        content = list(content.values())
    for value in content if isinstance(content, list) else ():
        yield from _class_paths(value)


def _read(text: str, where: str) -> Any:
    """Returns what YAML says; exits where it is none."""
    try:
        return documents.read(text, where)
    except Refusal as refusal:
        fail(str(refusal))


def load(name: str) -> dict[str, Any]:
    """Returns a packaged configuration as plain data."""
    return yaml.safe_load(Path(find(name)).read_text())


def option_values(words: list[str], *options: str) -> Iterator[tuple[int, str]]:
    """Yields position and value of every `--option value` and `--option=value` among `words`."""
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in options and equals:
            yield position, value
        elif word in options and position + 1 < len(words):
            yield position, words[position + 1]


def with_paths(words: list[str]) -> list[str]:
    """Replaces the names of packaged configurations, and of packaged settings of an estimator, by their paths."""
    words = list(words)
    for options, look_up in ((("--config", "-c"), find), (("--model.estimator",), find_part)):
        for position, value in list(option_values(words, *options)):
            if "=" in words[position]:
                words[position] = f"{options[0]}={look_up(value)}"
            else:
                words[position + 1] = look_up(value)
    return words


def find_part(name: str) -> str:
    """Returns the path of an estimator's settings, a file or a packaged one; a class name is returned as it is."""
    if Path(name).is_file():
        _read(Path(name).read_text(encoding="utf-8", errors="replace"), f"--model.estimator: {name!r}")
        return name
    if not ("/" in name or name.endswith((".yaml", ".yml"))):
        return name
    bare = name.removesuffix(".yaml").removeprefix("configs/").removeprefix("estimators/")
    if (path := folder() / "estimators" / f"{bare}.yaml").is_file():
        return str(path)
    known = sorted(path.stem for path in (folder() / "estimators").glob("*.yaml"))
    return fail(
        f"--model.estimator: there is no file {name!r}{did_you_mean(bare, known)}; packaged settings, by the name "
        f"estimators/NAME: {listed(known, bare)}"
    )


def default_for(words: list[str]) -> dict[str, Any]:
    """What holds beneath `words`: the embedded default, less the parts named there; nothing under a --config.

    How long the default model trains, and how often it is validated, holds for that model alone.
    """
    if any(True for _ in option_values(words, "--config", "-c")):
        return {}
    default = load(DEFAULT)
    named = {part: value for part in ("model", "data") for _, value in option_values(words, f"--{part}")}
    if named.get("model", _DEFAULT_MODEL).rpartition(".")[-1] != _DEFAULT_MODEL:
        default["trainer"] = {name: default["trainer"][name] for name in _FOR_ANY_MODEL}
    return {part: value for part, value in default.items() if part not in named}
