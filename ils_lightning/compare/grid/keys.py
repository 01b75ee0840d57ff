"""Dotted keys inside configurations."""

from copy import deepcopy
from typing import Any

from jsonargparse import Namespace

from ils_lightning import documents
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
    config[last] = _plain(value)


def _plain(value: Any) -> Any:
    """A copy as plain data: the parser has made a namespace of a class of one's own that holds another."""
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else deepcopy(value)


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
