"""The pages of the API reference, one for each module that lists its public names, and what is wrong with these."""

from collections.abc import Iterator
from functools import cache

import griffe

_PAGE = """# {module}

::: {module}
    options:
      members: {members}
"""
_NOT_CALLED = ("ils_lightning.__main__",)


@cache
def modules() -> dict[str, griffe.Module]:
    """Returns the modules with an `__all__`, by name; nothing is imported, so optional parts need not be installed."""
    package = griffe.load("ils_lightning", resolve_aliases=True)
    assert isinstance(package, griffe.Module)
    return {one.path: one for one in _below(package) if one.exports and one.path not in _NOT_CALLED}


def names(module: griffe.Module) -> list[str]:
    """Returns the public names of a module, sorted."""
    return sorted(str(name) for name in module.exports or ())


def pages() -> dict[str, str]:
    """Returns the pages in Markdown, by path."""
    found = {f"api/{short(name)}.md": _PAGE.format(module=name, members=names(one)) for name, one in modules().items()}
    rows = [
        f"| [`{name}`]({short(name)}.md) | {_first_line(one)} | {', '.join(f'`{public}`' for public in names(one))} |"
        for name, one in modules().items()
    ]
    table = "\n".join(["| module | what it is | public names |", "|---|---|---|", *rows])
    return {"api/index.md": f"# Reference\n\nEvery public name, made from the docstrings.\n\n{table}\n", **found}


def faults() -> Iterator[str]:
    """What is wrong with public names: one that the source does not have, or one without a docstring."""
    for path, module in modules().items():
        for name in names(module):
            try:
                found = module[name].final_target if module[name].is_alias else module[name]
            except (KeyError, griffe.GriffeError):
                yield f"{path}.{name} is public, and the source does not have it"
                continue
            if not found.has_docstring:
                yield f"{path}.{name} is public, and has no docstring"


def short(module: str) -> str:
    """Returns the name of a module's page."""
    return module.removeprefix("ils_lightning.")


def _below(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for one in module.modules.values():
        if not one.is_alias:
            yield from _below(one)


def _first_line(module: griffe.Module) -> str:
    text = module.docstring.value if module.docstring else ""
    return text.strip().split("\n")[0].replace("|", "\\|")
