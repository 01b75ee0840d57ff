"""Turns the parser's reports, trees of twenty lines that try every type in turn, into one line.

A report names the way down (`Parser key "estimator"`, `class_path 'x.ILS'`) and then what went wrong at its end. What
is allowed there is read from the signature of the class on that way.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from ils_lightning.errors import DescriptionError, did_you_mean, listed
from ils_lightning.type_hints import (
    bases,
    choices,
    class_at,
    class_names,
    classes,
    hints,
    is_abstract,
    is_required,
    readable,
)

_NOISE = re.compile(
    r"Does not validate against|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>|Expected a path but|"
    r"Parser key|Problem with given class_path|Subclass types expect one of|a class path \(str\)|a dict with"
)


_KEYS = ("class_path", "init_args")
_NO_CLASS = re.compile(
    r"does not correspond to a subclass|has no attribute|import path format|No module named '.*?'|"
    r"to be a subclass of|[Uu]nexpected import object|to be a function that returns"
)


def explain(message: str, options: Iterable[str], roots: Mapping[str, Any]) -> str:
    """Returns one line for the parser's report `message`.

    Args:
        message: the report.
        options: every option the parser knows, without dashes.
        roots: types of the top-level keys, such as `model`.
    """
    keys = ".".join(re.findall(r'Parser key "([^"]+)"', message)).split(".")
    if found := re.search(r"Importing '([^']+)' is not allowed", message):
        return f"--{'.'.join(keys)}: {found[1]!r} is not allowed here"
    paths = re.findall(r"class_path '([\w.]+)'", message)
    if found := _NO_CLASS.search(message):
        above = class_at(paths[-2]) if len(paths) > 1 else roots.get(keys[0])
        kind = hints(above).get(keys[-1]) if above and len(keys) > 1 else roots.get(keys[-1])
        return f"--{'.'.join(keys)}: {_no_class(message, found[0], kind)}"
    owner = class_at(paths[-1]) if paths else roots.get(keys[0]) if len(keys) > 1 else None
    if owner and keys[-1] not in hints(owner):  # a class made by a factory is named elsewhere in the report
        made = [class_at(path) for path in re.findall(r"class_path='([\w.]+)'", message)]
        owner = next((one for one in made if one and keys[-1] in hints(one)), owner)
    kind = hints(owner).get(keys[-1]) if owner else roots.get(keys[-1])
    option = f"--{'.'.join(keys)}"
    if found := re.search(r"Option '([^']+)' is not accepted(?:.*?Namespace\(class_path='([\w.]+)')?", message):
        made_by_factory = class_at(found[2]) if found[2] else None
        return f"{option}.{found[1]}: {_unknown_argument(found[1], made_by_factory or owner)}"
    if (found := re.search(r"following arguments are required: (.+)", message)) and (made := _unfinished(message)):
        return f"{option}: {_missing(found[1].split(', '), made, option)}"
    if found := re.search(r"unrecognized arguments: (\S+)|does not accept option '([^']+)'", message):
        return _unknown_option(found[1] or f"--{found[2]}", list(options), option if paths else "", owner)
    if found := re.search(r"Expected a dot import path string: (.*)", message):
        return f"{option}: {_wrong_value(found[1], kind)}"
    if found := re.search(r"(?:Expected a|Not a valid subclass of) .*?\. Got value: (.*)", message):
        return f"{option}: {_wrong_value(found[1], kind)}"
    if kind and (found := re.search(r"Given value: (.*)", message)) and "required" not in message:
        return f"{option}: {_wrong_value(found[1], kind)}"
    text = _essence(message)
    return f"{option}: {text}" if keys[0] and keys[0] not in text else text


def explained(error: ValueError, place: str = "") -> str:
    """Returns one line for an error, that of an object which cannot be made of its description included.

    Args:
        error: what was refused.
        place: dotted key at which the description stands in a file; the line then names the key at fault from there.
    """
    if not isinstance(error, DescriptionError):
        return str(error)
    if "Parser key" not in error.report:
        return error.report
    if not place:
        return str(error)
    line = explain(error.report, [], {"value": error.base})
    return re.sub(r"--value((?:\.\w+)*)", lambda found: _in_file(place, found[1]), line)


def of_description(base: Any, report: str) -> str:
    """Returns one line for the report on an object of type `base` that cannot be made of its description."""
    name = getattr(base, "__name__", str(base))
    if "Parser key" not in report:
        return f"{name}: {report}"
    return explain(report, [], {"value": base}).replace("--value.", "").replace("--value", name)


def _in_file(place: str, below: str) -> str:
    """Writes a key as files have it: `model.estimator` is `model.init_args.estimator` there, `trainer.x` is itself."""
    return f"{place}{below.replace('.', '.init_args.')}".replace("trainer.init_args.", "trainer.")


def _unknown_option(given: str, options: list[str], above: str, owner: type | None) -> str:
    if not given.startswith("-"):
        return f"unexpected word {given!r}: options start with -- and take one value"
    name = given.lstrip("-").split("=")[0]
    if above:
        return f"{above}.{name}: {_unknown_argument(name.split('.')[0], owner)}"
    known = sorted({option.split(".")[0] for option in options})
    by_tail = {option.rsplit(".", 1)[-1]: option for option in reversed(options)}
    head, dot, tail = name.partition(".")
    meant = by_tail[name] if name in by_tail else _nearest(name, options)
    if dot and head not in known:
        meant = f"{_nearest(head, known)}.{tail}" if _nearest(head, known) else ""
    hint = f", did you mean --{meant}?" if meant else ""
    return f"unknown option --{name}{hint}; known: {', '.join(f'--{group}' for group in known)}"


def _nearest(word: str, known: Iterable[str]) -> str:
    found = re.search("'(.*)'", did_you_mean(word, known))
    return found[1] if found else ""


def _unfinished(message: str) -> type | None:
    """The class of which a report says that arguments are missing: a class, or one whose objects are called."""
    before, after = re.split(r"following arguments are required: .+", message, maxsplit=1)
    if "a callable class" in before.rpartition("\n")[-1]:
        found = re.findall(r"class_path='([\w.]+)'", after)[:1]
    else:
        found = re.findall(r"class_path '([\w.]+)'", before)[-1:]
    return class_at(found[0]) if found else None


def _missing(names: list[str], owner: type, option: str) -> str:
    """Says which arguments a class needs, in the words of its documentation, and how to give them."""
    text = f"{owner.__doc__}\n{owner.__init__.__doc__}"
    meant = {name: re.search(rf"\n +{name}: (.+?)(?:[;.]\s|\n\s*\w+: |\n\n)", text, re.DOTALL) for name in names}
    needed = [f"{name} ({' '.join(one[1].split()).replace('`', '')})" if one else name for name, one in meant.items()]
    given = " and ".join(f"{option}.{name} ..." for name in names)
    return f"{owner.__name__} needs {' and '.join(needed)}: give {given}"


def _unknown_argument(name: str, owner: type | None) -> str:
    if owner is None:
        return f"unknown option {name!r}"
    if name in _KEYS:
        return "stands with init_args, for all options, and nothing else"
    if is_abstract(owner):
        near, known = did_you_mean(name, _KEYS), listed(class_names(owner), name)
        return f"a description has class_path, and init_args for options; given {name!r}{near}; classes: {known}"
    known = list(hints(owner))
    allowed = f"its options: {listed(known, name)}" if known else "it has none"
    return f"{owner.__name__} has no option {name!r}{did_you_mean(name, known)}; {allowed}"


def _no_class(message: str, reason: str, kind: Any) -> str:
    """Says what may be named where a name leads to no class of the `kind` that is asked for."""
    places = (
        r"Import path (\S+\.\S+) does",
        r"Expected '(.+?)' to be",
        r"path format: (\S+)",
        r"(?:Got|Given) value: ([\w.]+)$",
    )
    found = [name for place in places for name in re.findall(place, message, re.MULTILINE)]
    name = next(iter([*found, *reversed(re.findall(r"class_path '(.+?)'", message))]), "")
    why = {"has no attribute": "there is nothing of that name", "import path format": "that is no name of a class"}
    module = _no_module(name, reason) if reason.startswith("No module") else "that is another kind of class"
    names, bare = _of_module(name, kind) or class_names(kind), name.rpartition(".")[-1]
    if (owner := class_at(name)) is not None and owner in classes(kind, bare):
        return f"{bare!r} cannot be made of its name alone{_of_that_name(bare, kind)}"
    known = f"{did_you_mean(name, names)}; known: {listed(names, name)}" if names else ""
    return f"{name!r} cannot be used here: {why.get(reason, module)}{known}"


def _no_module(name: str, reason: str) -> str:
    """Says where a module is looked for, and which of the present folder was meant."""
    here = [path.stem for path in Path().glob("*.py")]
    return f"{reason} in the present folder or installed{did_you_mean(name.partition('.')[0], here)}"


def _of_module(name: str, kind: Any) -> list[str]:
    """The classes of somebody's own module that may stand where a name in it leads to none."""
    module = name.rpartition(".")[0]
    if module not in sys.modules or module.startswith("ils_lightning"):
        return []
    own = [one for one in vars(sys.modules[module]).values() if isinstance(one, type) and one.__module__ == module]
    # any of Lightning's will do where one of this package's is known
    wanted = [next((up for up in base.__mro__ if up.__module__.startswith("lightning.")), base) for base in bases(kind)]
    return [f"{module}.{one.__name__}" for one in own if issubclass(one, tuple(wanted))]


def _of_that_name(name: str, kind: Any) -> str:
    """Says what else it takes to make an object of the class that is called so, or of which of several."""
    found = classes(kind, name)
    if len(found) > 1:
        return f"; several classes are called so, give one in full: {', '.join(map(_in_full, found))}"
    needed = [option for option, parameter in signature(found[0]).parameters.items() if is_required(parameter)]
    return f"; it needs {', '.join(needed)}" if needed else ""


def _in_full(owner: type) -> str:
    return f"{owner.__module__}.{owner.__qualname__}"


def _wrong_value(given: str, kind: Any) -> str:
    """Says what may stand where `given` does."""
    given = given.strip()
    if values := choices(kind):
        if given.startswith("["):  # a list: the first that it may not hold
            given = next((word for word in re.findall(r"[^\s\[\],'\"]+", given) if word not in values), given)
        return f"must be one of {', '.join(values)}{did_you_mean(given, values)}; given {given!r}"
    if names := class_names(kind):
        if given in names:
            return f"{given!r} cannot be made of its name alone{_of_that_name(given, kind)}"
        if option := re.match(r"NestedArg\(key='([\w.]+)'", given):
            return f"name its class first, as in .class_path {names[0]}, then .{option[1]}; known: {listed(names, '')}"
        owner = class_at(f"ils_lightning.estimators.{given}") if given.isidentifier() else None
        if isinstance(owner, type) and not is_abstract(owner):
            return f"{given!r} cannot be used here: {_other_kind(kind)}; known: {listed(names, given)}"
        return f"unknown class {given!r}{did_you_mean(given, names)}; known: {listed(names, given)}"
    return f"must be {readable(kind) or 'of another type'}; given {given!r}"


def _other_kind(kind: Any) -> str:
    """Says why an estimator does not serve where another kind of object is asked for."""
    wanted = [base.__name__ for base in bases(kind)]
    return "it has no draw that can be differentiated" if "Sampler" in wanted else f"it is no {' or '.join(wanted)}"


def _essence(message: str) -> str:
    """Keeps the lines of a report that say something."""
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    kept = [line for line in lines if line and not _NOISE.match(line)]
    kept = [line for line in kept if not line.startswith("Expected a <class")] or kept
    return " ".join(kept or lines)
