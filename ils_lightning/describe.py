"""Plain descriptions of configurable objects, so that checkpoints hold data, not pickled code.

A description is `{"class_path": "package.module.Class", "init_args": {...}}`, the form configuration files use.
"""

import inspect
import math
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from torch import Tensor
from torch.serialization import add_safe_globals

from ils_lightning.errors import DescriptionError, Refusal, cause
from ils_lightning.messages import of_description
from ils_lightning.type_hints import is_abstract, unused_among

set_parsing_settings(import_path_denylist=[])  # the parser's own list of names that it refuses, or it would warn
# A class named inside free-form data stays data: only arguments typed as a class of ours make objects.
set_parsing_settings(instantiate_subclass_spec_in_any=False)


class Described:
    """Mixin that remembers the arguments an object was made with."""

    _arguments: tuple[tuple, dict]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        add_safe_globals([cls])  # an object among the hyperparameters of a checkpoint is loaded as weights are

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if is_abstract(cls):
            raise Refusal(f"{cls.__name__} is abstract; name one of its subclasses: {', '.join(_subclasses(cls))}")
        self = super().__new__(cls)
        object.__setattr__(self, "_arguments", (args, kwargs))
        return self

    def __repr__(self) -> str:
        """The call that makes such an object; modules that hold layers beside described parts show those below it."""
        parts = getattr(self, "_modules", {}).values()
        if all(part is None or isinstance(part, Described) for part in parts):
            return f"{type(self).__name__}({self.extra_repr()})"
        return super().__repr__()

    def extra_repr(self) -> str:
        """Every option and its present value, as one would write them."""
        return ", ".join(f"{name}={_written(value)}" for name, value in _present(self).items())


def _present(value: Described) -> dict[str, Any]:
    """All arguments of an object by name, defaults included; numbers that may be scheduled as they are now."""
    args, kwargs = value._arguments
    signature = inspect.signature(type(value))
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    found = {}
    for name, argument in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            found |= argument
        elif signature.parameters[name].kind is not inspect.Parameter.VAR_POSITIONAL or argument:
            found[name] = getattr(value, name) if name in getattr(value, "ranges", ()) else argument
    return found


def _written(value: Any) -> str:
    """A value as one would write it: tensors and tuples as lists, and infinity in Python's words."""
    if isinstance(value, Tensor):
        return _written(value.tolist())
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return f"float('{value}')" if isinstance(value, float) and not math.isfinite(value) else repr(value)


def _subclasses(cls: type) -> list[str]:
    """Names of the classes below `cls` of which objects can be made, in order."""
    below = {name for child in cls.__subclasses__() for name in _subclasses(child)}
    return sorted(below | {child.__name__ for child in cls.__subclasses__() if not is_abstract(child)})


def describe(value: Any) -> Any:
    """Turns an object into plain data; numbers, strings, lists and dictionaries of them stay as they are.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> describe(ReinMax(temperature=1.3))
        {'class_path': 'ils_lightning.estimators.reinmax.ReinMax', 'init_args': {'temperature': 1.3}}
    """
    if isinstance(value, Described):
        args, kwargs = value._arguments
        bound = inspect.signature(type(value)).bind(*args, **kwargs)
        arguments = {name: describe(argument) for name, argument in bound.arguments.items()}
        return {"class_path": f"{type(value).__module__}.{type(value).__qualname__}", "init_args": arguments}
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    return value


def create(description: Any, base: Any) -> Any:
    """Makes a `base` object of a description or of the bare name of a subclass; an object is returned as it is.

    `base` is a class, or the type of a function that makes objects, such as Lightning's OptimizerCallable.

    Raises:
        ValueError: when the name or an argument is not known; the text says which are.

    Example:
        >>> from ils_lightning.estimators import Estimator
        >>> create("LeaveOneOut", Estimator).samples
        4
    """
    return _made(description, base, defaults=True)


def preview(description: Any, base: Any) -> Any:
    """Makes what `create` makes, to be looked at and thrown away, with less to parse.

    Defaults of its parts are not written among its arguments: a checkpoint of it would not hold them.

    Raises:
        ValueError: as `create` does.

    Example:
        >>> from ils_lightning.estimators import Estimator
        >>> preview("LeaveOneOut", Estimator).samples
        4
    """
    return _made(description, base, defaults=False)


def arguments(description: Any, base: Any) -> dict[str, Any]:
    """Returns all arguments, defaults included, with which `create` makes an object.

    Example:
        >>> from ils_lightning.estimators import Estimator
        >>> arguments("LeaveOneOut", Estimator)
        {'samples': 4}
    """
    _, parsed = _parse(description, base, defaults=True)
    return dict(parsed.as_dict()["value"].get("init_args", {}))


def options(value: "Described") -> dict[str, Any]:
    """Returns the arguments of an object as plain data, those left at their defaults included.

    Example:
        >>> from ils_lightning.estimators import LeaveOneOut
        >>> options(LeaveOneOut())
        {'samples': 4}
    """
    args, kwargs = value._arguments
    bound = inspect.signature(type(value)).bind(*args, **kwargs)
    bound.apply_defaults()
    return {name: describe(argument) for name, argument in bound.arguments.items()}


def _made(description: Any, base: Any, defaults: bool) -> Any:
    if not isinstance(description, str | dict):
        return _taken(description, base)
    parser, parsed = _parse(description, base, defaults)
    with _named(base):
        return parser.instantiate(parsed)["value"]


def _taken(value: Any, base: Any) -> Any:
    """Returns an object as it is; nothing at all, a class and plain data are none."""
    if isinstance(base, type) and (value is None or isinstance(value, type | int | float | list | tuple)):
        name = getattr(value, "__name__", "")
        given = f"the class {name}: write {name}() or {name!r}" if name else repr(value)
        raise Refusal(f"{base.__name__}: must be an object, the name of its class, or a description; given {given}")
    return value


def _parse(description: Any, base: Any, defaults: bool) -> tuple[ArgumentParser, Namespace]:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=base)
    with _named(base):
        parsed = parser.parse_object({"value": description}, defaults=defaults)
        if told := unused_among(parsed["value"], getattr(base, "__name__", "value")):
            raise Refusal(told)
        return parser, parsed


@contextmanager
def _named(base: Any) -> Iterator[None]:
    """Turns what the parser or this package refuses inside into a ValueError that names `base`."""
    try:
        yield
    except Exception as error:
        if not isinstance(found := cause(error), Refusal | ArgumentError):
            raise
        report = str(found)
        raise DescriptionError(base, report, of_description(base, report)) from None


def differences(key: str, new: Any, old: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields place, new and old value of what two descriptions, or mappings of them, both hold and hold otherwise.

    Example:
        >>> list(differences("model", {"latents": 5, "seed": 0}, {"latents": 8, "seed": 0, "margin": 1}))
        [('model.latents', 5, 8)]
    """
    if isinstance(new, dict) and isinstance(old, dict):
        if _class_name(new) != _class_name(old):
            yield key, _class_name(new), _class_name(old)
            return
        for name in new:
            if name in old and name not in ("class_path", "download"):  # what is downloaded, no checkpoint says
                yield from differences(key if name == "init_args" else f"{key}.{name}", new[name], old[name])
    elif new != old:
        yield key, new, old


def short(value: Any) -> str:
    """Returns the name of the class that a description names, and any other value as text."""
    return _class_name(value) if isinstance(value, dict) and "class_path" in value else str(value)


def _class_name(description: dict[str, Any]) -> str:
    return str(description.get("class_path", "")).rpartition(".")[-1]


def in_words(value: Any) -> str:
    """Writes an object and its options as one would call it, leaving out what is None.

    Example:
        >>> from ils_lightning.estimators import ILS
        >>> in_words(ILS(step_size=0.1, pullback="none"))
        "ILS(step_size=0.1, pullback='none')"
    """
    description = describe(value)
    if not isinstance(description, dict) or "class_path" not in description:
        return repr(description)
    args, kwargs = value._arguments
    given = inspect.signature(type(value)).bind(*args, **kwargs).arguments
    options = [f"{name}={in_words(option)}" for name, option in given.items() if option is not None]
    return f"{description['class_path'].rsplit('.', 1)[-1]}({', '.join(options)})"
