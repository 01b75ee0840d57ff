"""YAML from files and words, of bounded size: a few lines whose aliases repeat each other can describe billions."""

from enum import Enum
from typing import Any

import yaml
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent

from ils_lightning.errors import Refusal

# members of an Enum among a configuration's defaults, as Lightning's Timer has, are written as their values
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))

ENTRIES = 100_000
"""How many values a document may hold, repetitions by aliases counted."""
_DEEPEST = 50


class _Loader(yaml.SafeLoader):
    """YAML's plain data, of which no key may stand twice in a mapping: the first would be lost without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise Refusal(f"the key {twice!r} stands twice in one mapping, line {node.start_mark.line + 1} and below")
        return super().construct_mapping(node, deep)


def read(text: str, where: str) -> Any:
    """Returns what a YAML document says.

    Raises:
        ValueError: when it is none, holds itself, or is too large or too deep; it names `where`.

    Example:
        >>> read("a: [1, 2]", "x.yaml")
        {'a': [1, 2]}
    """
    try:
        _require_bounded(text)
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise Refusal(f"{where} is not readable as YAML: {error}") from None


def _require_bounded(text: str) -> None:
    """Raises a ValueError where a document is too large or too deep, before any of it is built."""
    sizes: dict[str, int] = {}
    open_ones: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        size = 1
        if isinstance(event, CollectionStartEvent):
            open_ones.append((event.anchor, 1))
            size = 0
        elif isinstance(event, CollectionEndEvent):
            anchor, size = open_ones.pop()
            sizes |= {anchor: size} if anchor else {}
        elif isinstance(event, AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_ones):
                raise Refusal(f"*{event.anchor} stands inside what it stands for")
            size = sizes.get(event.anchor, 1)
        elif isinstance(event, ScalarEvent) and event.anchor:
            sizes[event.anchor] = 1
        elif not isinstance(event, NodeEvent):
            size = 0
        anchor, before = open_ones.pop()
        open_ones.append((anchor, before + size))
        if before + size > ENTRIES or len(open_ones) > _DEEPEST:
            raise Refusal(f"it must hold at most {ENTRIES} values, at most {_DEEPEST} levels deep")
