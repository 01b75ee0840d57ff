"""The verb `estimators`: the table of all of them, or what there is to know of one."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ils_lightning import variables
from ils_lightning.errors import Refusal, did_you_mean, listed
from ils_lightning.estimators import Estimator, table
from ils_lightning.formula import formula, head
from ils_lightning.packaged import folder
from ils_lightning.type_hints import class_at, is_abstract

_PIPE = 160  # columns where the output is no terminal and COLUMNS is not set
_ARGUMENT = re.compile(r"^(\w+): (.*(?:\n {4,}.*)*)", re.MULTILINE)


def show(name: str | None = None, form: Literal["terminal", "markdown"] = "terminal") -> None:
    """Prints the table of all estimators, or the page of one.

    Args:
        name: the estimator to describe, which may stand alone, as in `estimators ReinMax`; one of your own by its
            path, as in `estimators halfway.Halfway`; all of this package's, in a table, unless given.
        form: the table for the terminal, or Markdown.
    """
    width = shutil.get_terminal_size((_PIPE, 24)).columns
    if name is not None:
        print(page(name, width))
    elif form == "markdown":
        print(table.markdown(), end="")
    else:
        print(table.text(width), end="")


def page(name: str, width: int) -> str:
    """Returns formula, facts, options, source and configuration of the estimator `name`.

    Raises:
        ValueError: when there is none of that name.
    """
    return "\n\n".join(part for part in _parts(_of_name(name), width) if part)


def _of_name(name: str) -> type[Estimator]:
    """The class of one of this package's names, or of the path of somebody's own, such as halfway.Halfway."""
    known = {kind.__name__.lower(): kind for kind in table.classes()}
    if name.lower() in known:
        return known[name.lower()]
    own = class_at(name) if "." in name else None
    if isinstance(own, type) and issubclass(own, Estimator) and not is_abstract(own):
        return own
    name = name.removeprefix("ils_lightning.variables.")
    if name in variables.__all__:
        raise Refusal(
            f"{name} is of ils_lightning.variables, which have no categories: `python -m pydoc ils_lightning.variables."
            f"{name}` describes it"
        )
    names = sorted(kind.__name__ for kind in known.values())
    near = f"{did_you_mean(name, names)}; known: {listed(names, name)}"
    raise Refusal(f"there is no estimator {name!r}{near} (one of your own by its path, as in halfway.Halfway)")


def _parts(kind: type[Estimator], width: int) -> Iterator[str]:
    one = table.row(kind)
    about = head(inspect.getdoc(kind) or "")
    yield kind.__name__
    yield _filled(about, width)
    yield _filled(formula(kind), width) if formula(kind) != about else ""
    yield _filled(f"{one.kind}; {table.facts(one)}", width)
    options = list(_options(kind))
    yield "\n".join(["options:", *(_item(option, width) for option in options)]) if options else "It has no options."
    yield f"source: {kind.source}" if kind.source else ""
    if path := settings(kind):
        yield f"recommended settings: --model.estimator estimators/{path.stem}, which is {path}"
    else:
        yield f"to use: --model.estimator {kind.__name__ if _is_ours(kind) else f'{kind.__module__}.{kind.__name__}'}"


def arguments(kind: type[Estimator]) -> Iterator[tuple[str, str, str]]:
    """Yields each option of an estimator: its name, its default (empty where it has none), and what it is."""
    section = re.search(r"^Args:\n((?: {4}.*\n?|\n)*)", inspect.getdoc(kind) or "", re.MULTILINE)
    said = dict(_ARGUMENT.findall(textwrap.dedent(section[1]))) if section else {}
    for name, parameter in inspect.signature(kind).parameters.items():
        default = "" if parameter.default is parameter.empty else str(parameter.default)
        yield name, default, " ".join(said.get(name, "").split())


def settings(kind: type[Estimator]) -> Path | None:
    """Returns the packaged file of an estimator's recommended settings, where there is one."""
    path = folder() / "estimators" / f"{kind.__module__.rpartition('.')[-1]}.yaml"
    return path if _is_ours(kind) and path.is_file() else None


def _is_ours(kind: type[Estimator]) -> bool:
    return kind.__module__.startswith("ils_lightning.")


def _options(kind: type[Estimator]) -> Iterator[str]:
    for name, default, said in arguments(kind):
        yield f"{name}{f' = {default}' if default else ''}{f': {said}' if said else ''}"


def _item(text: str, width: int) -> str:
    return textwrap.fill(text, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _filled(text: str, width: int) -> str:
    """Prose broken at words; indented formulas as they are."""
    parts = text.split("\n\n")
    return "\n\n".join(
        part if re.search(r"^ {4}", part, re.MULTILINE) else textwrap.fill(" ".join(part.split()), width)
        for part in parts
    )
