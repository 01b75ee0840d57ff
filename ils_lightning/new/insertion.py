"""Lines put into files of Python at the place where their neighbours are in order; nothing else is touched."""

import ast
import re
from collections.abc import Callable, Sequence

from ils_lightning.errors import Refusal

Key = Callable[[str], tuple]


def of_exports(name: str) -> tuple:
    """Order of names in `__all__`: constants, then classes, by capital letters first; numbers by their size."""
    return not (len(name) > 1 and name.isupper()), _natural(name)


def of_members(name: str) -> tuple:
    """Order of names in an import: the same, capital letters or not."""
    return not (len(name) > 1 and name.isupper()), _natural(name.lower()), name


def import_line(text: str, module: str, line: str) -> str:
    """Adds `line`, an import from `module`, to the imports of a module's text."""
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
    return _in_order(text, [(node.module or "", node) for node in nodes], module, line, _natural)


def export(text: str, name: str) -> str:
    """Adds a name to `__all__`, which has one name a line."""
    values = _assigned(text, "__all__").elts
    return _in_order(text, [(ast.literal_eval(value), value) for value in values], name, f'    "{name}",', of_exports)


def member(text: str, module: str, name: str) -> str:
    """Adds a name to the import from `module` that has one name a line."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and node.module == module:
            return _in_order(text, [(one.name, one) for one in node.names], name, f"    {name},", of_members)
    raise Refusal(f"nothing is imported from {module}")


def last_of_list(text: str, variable: str, lines: Sequence[str]) -> str:
    """Adds lines after the last element of a list at the top level."""
    return _after(text, _assigned(text, variable).elts[-1].end_lineno, lines)


def _assigned(text: str, variable: str) -> ast.List:
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable:
            if isinstance(node.value, ast.List) and node.value.elts:
                return node.value
            break
    raise Refusal(f"there is no list {variable} with an element in it")


def _in_order(text: str, known: Sequence[tuple[str, ast.AST]], name: str, line: str, key: Key) -> str:
    """Puts `line` before the first neighbour whose name comes after `name`, or behind the last."""
    for other, node in known:
        if key(other) > key(name):
            return _after(text, getattr(node, "lineno", 1) - 1, [line])
    return _after(text, getattr(known[-1][1], "end_lineno", None), [line])


def _after(text: str, number: int | None, new: Sequence[str]) -> str:
    lines = text.splitlines()
    where = len(lines) if number is None else number
    changed = "\n".join([*lines[:where], *new, *lines[where:]]) + "\n"
    try:
        ast.parse(changed)
    except SyntaxError:
        raise Refusal(f"its names must stand one a line; {new[0].strip()!r} has no place") from None
    return changed


def _natural(name: str) -> tuple:
    """Numbers count by their size: a2 before a10."""
    return tuple((part.zfill(12) if part.isdigit() else part) for part in re.split(r"(\d+)", name))
