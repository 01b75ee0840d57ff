"""Configurations among typed words: files, names of packaged ones, and the embedded default of `fit`."""

import re
from collections.abc import Iterator
from os.path import exists, isfile  # which are False of a text too long for a path
from pathlib import Path
from typing import Any

from ils_lightning import documents, packaged
from ils_lightning.cli.errors import fail, told_in_one_line
from ils_lightning.errors import Refusal, did_you_mean
from ils_lightning.type_hints import class_at

DEFAULT = "toy1"
_DEFAULT_MODEL = "CategoricalFit"
_FOR_ANY_MODEL = ("num_sanity_val_steps", "enable_model_summary")
_OF_DESCRIPTIONS = ("class_path", "init_args", "dict_kwargs")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def find(name: str) -> str:
    """Returns the path of the file `name`, or of the packaged configuration of that name; exits where it is none.

    A configuration given as text (YAML or JSON of a mapping) is returned as it is.
    """
    if "://" in name or name.lstrip().startswith("{"):
        return name
    try:
        content = packaged.load(name)
    except Refusal as refusal:
        fail(f"--config: {refusal}")
    for key, described in _descriptions(content):
        if not isinstance(given := described.get("init_args", {}), dict):
            fail(f"--config: {name!r}: {key}.init_args must be a mapping (of options to values); given {_yaml(given)}")
        if unknown := [one for one in described if one not in _OF_DESCRIPTIONS]:
            fail(
                f"--config: {name!r}: beside class_path stands init_args; {key} has {unknown[0]!r}"
                f"{did_you_mean(str(unknown[0]), _OF_DESCRIPTIONS)}"
            )
    return str(packaged.find(name))


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value)


def _descriptions(content: Any, key: str = "") -> Iterator[tuple[str, dict]]:
    """Yields place and content of every mapping that names a class."""
    if isinstance(content, dict):
        if "class_path" in content:
            yield key, content
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
    names = {value for value in values if _DOTTED.fullmatch(value) and not exists(value)}
    for value in values:
        if value.endswith((".yaml", ".yml")) and isfile(value):
            value = Path(value).read_text(encoding="utf-8", errors="replace")
        elif not value.lstrip().startswith(("{", "[")):
            continue
        names |= set(_class_paths(_read(value, "a word")))
    for name in names:
        class_at(name)
    return names


def model_named(words: list[str]) -> str:
    """The model's class as the words, or the files among them, name it last; nothing where they do not."""
    found = ""
    for _, value in option_values(words, "--config"):
        content = _read(Path(value).read_text(encoding="utf-8", errors="replace"), value) if isfile(value) else {}
        model = content.get("model") if isinstance(content, dict) else None
        named = model.get("class_path") if isinstance(model, dict) else model
        found = named if isinstance(named, str) else found
    for _, value in option_values(words, "--model", "--model.class_path"):
        found = value
    return found


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


def option_values(words: list[str], *options: str) -> Iterator[tuple[int, str]]:
    """Yields position and value of every `--option value` and `--option=value` among `words`."""
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in options and equals:
            yield position, value
        elif word in options and position + 1 < len(words):
            yield position, words[position + 1]


def options(words: list[str]) -> set[str]:
    """Returns the options among the words, without their values."""
    return {word.partition("=")[0].removesuffix("+") for word in words if word.startswith("--")}


def with_paths(words: list[str]) -> list[str]:
    """Replaces the names of packaged configurations, and of packaged settings of an estimator, by their paths."""
    words = list(words)
    for position, value in option_values(words, "--model", "--data", "--trainer"):
        if isfile(value):
            option = words[position].partition("=")[0]
            with told_in_one_line({}, f"{option}: "):
                packaged.read(Path(value), value)
    for options, look_up in ((("--config", "-c"), find), (("--model.estimator",), find_part)):
        for position, value in list(option_values(words, *options)):
            if "=" in words[position]:
                words[position] = f"{options[0]}={look_up(value)}"
            else:
                words[position + 1] = look_up(value)
    return words


def find_part(name: str) -> str:
    """Returns the path of an estimator's settings, a file or a packaged one; a class name is returned as it is."""
    if not (isfile(name) or "/" in name or name.endswith((".yaml", ".yml"))):
        return name
    try:
        packaged.load(name, "estimator")
        return str(packaged.find(name, "estimator"))
    except Refusal as refusal:
        return fail(f"--model.estimator: {refusal}")


def default_for(words: list[str]) -> dict[str, Any]:
    """What holds beneath `words`: the embedded default, less the parts named there; nothing under a --config.

    How long the default model trains, and how often it is validated, holds for that model alone.
    """
    if any(True for _ in option_values(words, "--config", "-c")):
        return {}
    default = packaged.load(DEFAULT)
    named = {part: value for part in ("model", "data") for _, value in option_values(words, f"--{part}")}
    if named.get("model", _DEFAULT_MODEL).rpartition(".")[-1] != _DEFAULT_MODEL:
        default["trainer"] = {name: default["trainer"][name] for name in _FOR_ANY_MODEL}
    return {part: value for part, value in default.items() if part not in named}
