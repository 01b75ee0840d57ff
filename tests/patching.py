"""How a mistake is put into a function of the package: its source, changed in one place, compiled anew."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from ils_lightning.estimators import Estimator

Make = Callable[[], Estimator]


@dataclass(frozen=True)
class Patch:
    """One mistake: `old` becomes `new` in `function`, which `make`'s estimator uses; `law` falls."""

    make: Make
    function: Callable[..., Any]
    old: str
    new: str
    law: str = "formula"


def mutated(patch: Patch) -> CodeType:
    """The patched function's code, to be put in the place of its own."""
    source = inspect.getsource(patch.function)
    assert source.count(patch.old) == 1, f"{patch.old!r} must occur once in\n{source}"
    module = inspect.getsource(inspect.getmodule(patch.function))  # type: ignore[arg-type]
    compiled = compile(module.replace(source, source.replace(patch.old, patch.new)), "mutant", "exec")
    return next(code for code in _within(compiled) if code.co_qualname == patch.function.__qualname__)


def _within(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _within(constant)
