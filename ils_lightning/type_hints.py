"""What the signatures of configurable classes allow, in words."""

import types
from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import Parameter, isabstract, signature
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import Namespace

_PLAIN = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "a mapping",
    Path: "a path",
    type(None): "null",
}


def is_abstract(cls: type) -> bool:
    """Whether a class says of itself, by an attribute `_abstract`, that it is there to be derived from.

    Example:
        >>> from ils_lightning.estimators import Estimator, ReinMax
        >>> is_abstract(Estimator), is_abstract(ReinMax)
        (True, False)
    """
    return "_abstract" in vars(cls)


def hints(owner: type) -> dict[str, Any]:
    """Returns the types of the arguments that `owner` is made with, by name; its bases' where it declares none."""
    found = _annotations(owner)
    for base in getattr(owner, "__mro__", ()) if not found else ():  # a function has none
        if "__init__" in base.__dict__ and base is not object:
            found = {**_annotations(base), **found}
    return {name: kind for name, kind in found.items() if name != "return"}


def is_required(parameter: Parameter) -> bool:
    """Whether a call must give this argument."""
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def class_at(path: str) -> type | None:
    """Returns the class of a dotted path, or None where there is none."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name, None)
    except (ImportError, ValueError):  # there is no such module, or no name of one
        return None


def choices(kind: Any) -> list[str]:
    """Returns the values of a Literal type, or of a list of one, as text.

    Example:
        >>> choices(Literal["sum", "clip"] | None), choices(list[Literal["train", "val"]])
        (['sum', 'clip'], ['train', 'val'])
    """
    parts = [item for part in leaves(kind) for item in (get_args(part) if get_origin(part) is list else [part])]
    return [str(value) for part in parts if get_origin(part) is Literal for value in get_args(part)]


def class_names(kind: Any) -> list[str]:
    """Returns the names of the classes that may stand where `kind` is asked for."""
    return sorted({name for base in bases(kind) for child in base.__subclasses__() for name in _concrete(child)})


def classes(kind: Any, name: str) -> list[type]:
    """Returns the classes of this name that may stand where `kind` is asked for."""
    found = dict.fromkeys(child for base in bases(kind) for child in _below(base) if child.__name__ == name)
    return list(found)


def _below(base: type) -> Iterator[type]:
    for child in base.__subclasses__():
        yield child
        yield from _below(child)


def readable(kind: Any) -> str:
    """Returns the type in words.

    Example:
        >>> readable(int | None), readable(float | list[float])
        ('a whole number or null', 'a number or a list of numbers')
    """
    words = [_PLAIN.get(part) or _sequence(part) or getattr(part, "__name__", str(part)) for part in leaves(kind)]
    return " or ".join(dict.fromkeys(word for word in words if word != "Tensor"))


def null_among(description: Any, place: str) -> tuple[str, str] | None:
    """Returns place and type of an option that is null though neither its type nor its default is: the parser lets it.

    Args:
        description: class and arguments, as parsed.
        place: of the description.
    """
    if not isinstance(description, Mapping | Namespace) or not isinstance(description.get("class_path"), str):
        return None
    kind = class_at(description["class_path"])
    known = hints(kind) if kind else {}
    for name, value in dict(description.get("init_args") or {}).items():
        if isinstance(value, Mapping | Namespace):
            if (found := null_among(value, f"{place}.{name}")) is not None:
                return found
        elif value is None and name in known and not _takes_null(kind, name, known[name]):
            return f"{place}.{name}", readable(known[name])
    return None


def _takes_null(kind: Any, name: str, declared: Any) -> bool:
    """Whether null may stand for an option: its type has it, its default is it, or nothing is known of either."""
    default = signature(kind).parameters.get(name)
    takes = {type(None), Any}.intersection(leaves(declared))
    return bool(takes) or not readable(declared) or default is None or default.default is None


def unused_among(description: Any, place: str) -> str:
    """Says which `dict_kwargs` stand at a class that takes no further keywords, or nothing: the parser lets them.

    Args:
        description: what was parsed, of one object or of several.
        place: of the description.
    """
    return _unused(description, place) if "dict_kwargs" in str(description) else ""


def _unused(description: Any, place: str) -> str:
    if isinstance(description, list):
        return next(filter(None, (_unused(one, place) for one in description)), "")
    if not isinstance(description, Mapping | Namespace):
        return ""
    given, path = description.get("dict_kwargs"), description.get("class_path")
    kind = class_at(path) if given and isinstance(path, str) else None
    if kind and not any(one.kind is one.VAR_KEYWORD for one in signature(kind).parameters.values()):
        unused = ", ".join(dict(given or {}))
        return f"{place}.dict_kwargs: {kind.__name__} takes its own options only, in init_args; given {unused}"
    parts = description.get("init_args") if "class_path" in description else description
    below = vars(parts) if isinstance(parts, Namespace) else parts or {}
    return next(filter(None, (_unused(part, f"{place}.{name}") for name, part in below.items())), "")


def _sequence(kind: Any) -> str:
    if get_origin(kind) is not list:
        return ""
    items = set(leaves(get_args(kind)[0]))
    if items == {int}:
        return "a list of whole numbers"
    return "a list of numbers" if items <= {int, float} else "a list"


def _annotations(owner: type) -> dict[str, Any]:
    try:
        return get_type_hints(owner.__init__)
    except (NameError, TypeError):  # names imported for type checkers only
        return dict(getattr(owner.__init__, "__annotations__", {}))


def leaves(kind: Any) -> Iterator[Any]:
    """Members of a union, however nested, or the type alone."""
    if get_origin(kind) in (Union, types.UnionType):
        for part in get_args(kind):
            yield from leaves(part)
    elif kind is not None:
        yield kind


def bases(kind: Any) -> Iterator[type]:
    """Classes named anywhere in a type: in unions, lists, and as what a factory returns."""
    for part in leaves(kind):
        if isinstance(part, type) and get_origin(part) is None:
            if part not in (*_PLAIN, Any) and part.__name__ != "Tensor":
                yield part
        elif arguments := get_args(part):
            yield from bases(arguments[-1])


def _concrete(base: type) -> Iterator[str]:
    """Names of the classes below `base` that are meant to be used: those made to be derived from are not."""
    if not (base.__name__.startswith("_") or is_abstract(base) or isabstract(base)):  # the latter: other libraries'
        yield base.__name__
    for child in base.__subclasses__():
        yield from _concrete(child)
