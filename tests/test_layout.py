"""The plan of the house: rooms (packages, and modules beside them) stand on floors, and imports run downward only."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ils_lightning

HOME = Path(ils_lightning.__file__).parent
FILES = sorted(HOME.rglob("*.py"))
NAME = HOME.name


def room(path: Path) -> str:
    """A module's room: its package, `compare` having one for each of its folders; itself where it has none."""
    parts = path.relative_to(HOME).with_suffix("").parts
    return "/".join(parts[:2]) if parts[0] == "compare" and len(parts) > 2 else parts[0]


def module(dotted: str) -> Path | None:
    """The file of a module of this package."""
    place = HOME.joinpath(*dotted.split(".")[1:])
    found = (one for one in (place / "__init__.py", place.with_suffix(".py")) if one.is_file())
    return next(found, None)


def imported(path: Path, text: str) -> Iterator[Path]:
    """The files of this package that a file imports, inside functions as well."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == NAME:
            for alias in node.names:
                yield module(f"{node.module}.{alias.name}") or module(str(node.module)) or path
        elif isinstance(node, ast.Import):
            yield from (module(alias.name) or path for alias in node.names if alias.name.split(".")[0] == NAME)


def arrows(texts: dict[Path, str]) -> dict[str, set[str]]:
    """Which rooms each room imports; the package's own `__init__` is no room."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, text in texts.items():
        below = {room(one) for one in imported(path, text)} - {room(path), "__init__"}
        found[room(path)] |= below
    return found


TEXTS = {path: path.read_text(encoding="utf-8") for path in FILES}


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert len([*TopologicalSorter(arrows(TEXTS)).static_order()]) > 30


def test_a_circle_would_be_found() -> None:
    wrong = TEXTS | {HOME / "describe.py": f"from {NAME}.compare.report import table"}
    with pytest.raises(CycleError):
        TopologicalSorter(arrows(wrong)).prepare()


def test_nothing_but_the_start_stands_above_the_command_line() -> None:
    above = {name for name, below in arrows(TEXTS).items() if "cli" in below}
    assert above == {"__main__"}


def test_the_report_of_a_comparison_trains_and_searches_nothing() -> None:
    found = arrows(TEXTS)
    assert not {"compare/tuning", "compare/launchers"} & found["compare/report"]
    assert not {"compare/report", "compare/tuning", "compare/training"} & found["compare/grid"]


def test_every_file_can_be_read_at_a_sitting() -> None:
    assert {path.name: len(text.splitlines()) for path, text in TEXTS.items() if len(text.splitlines()) > 350} == {}
