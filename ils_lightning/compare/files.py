"""Configuration files by path or packaged name, and dotted keys inside them."""

from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

from ils_lightning.cli import documents
from ils_lightning.cli.errors import listed
from ils_lightning.errors import Refusal


def assign(config: dict, key: str, value: Any) -> None:
    """Sets a dotted key of nested dictionaries, making the levels that are missing.

    A class given by its bare name makes room for arguments.

    Example:
        >>> config = {"estimator": "ReinMax"}
        >>> assign(config, "estimator.init_args.temperature", 1.3)
        >>> config
        {'estimator': {'class_path': 'ReinMax', 'init_args': {'temperature': 1.3}}}
    """
    *parents, last = key.split(".")
    for name, child in zip(parents, [*parents, last][1:], strict=True):
        if not isinstance(config.get(name), dict):
            named = isinstance(config.get(name), str) and child == "init_args"
            config[name] = {"class_path": config[name]} if named else {}
        config = config[name]
    config[last] = deepcopy(value)


def overrides(words: list[str]) -> dict[str, Any]:
    """Reads `key=value` words; values are YAML.

    Raises:
        ValueError: when a word has no key or no equals sign.

    Example:
        >>> overrides(["trainer.max_epochs=2", "data.init_args.binarize=none"])
        {'trainer.max_epochs': 2, 'data.init_args.binarize': 'none'}
    """
    pairs = [word.partition("=") for word in words]
    for word, (key, equals, _) in zip(words, pairs, strict=True):
        if not equals or not key or not all(key.split(".")):
            raise Refusal(f"overrides and options are a key and its value, as trainer.max_epochs=2; given {word!r}")
    return {key: documents.read(value, key) for key, _, value in pairs}


def find(name: str) -> Path:
    """Returns the file `name`, or the packaged configuration of that name.

    Raises:
        ValueError: when there is neither; the text lists the packaged ones.
    """
    if Path(name).is_file():
        return Path(name)
    folders = [Path(str(files("ils_lightning"))) / "configs", Path(str(files("ils_lightning"))).parent / "configs"]
    for folder in folders:
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    known = sorted({str(path.relative_to(folder))[:-5] for folder in folders for path in folder.rglob("*.yaml")})
    raise Refusal(f"no configuration file {name!r}; packaged ones are {listed(known, name)}")


def load(name: str) -> dict:
    """Reads a YAML file, or the packaged configuration of that name.

    Raises:
        ValueError: when there is no such file, or it is no mapping.
    """
    path = find(name)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(f"{name} is not readable as YAML: {error}") from None
    content = documents.read(text, name)
    if not isinstance(content, dict):
        raise Refusal(f"{name} must hold a mapping (of keys to values); given {type(content).__name__}")
    return content
