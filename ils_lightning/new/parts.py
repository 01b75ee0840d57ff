"""What is written: the files of a new estimator or module, in a checkout of the project and anywhere else."""

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Literal, NamedTuple

from ils_lightning.errors import Refusal
from ils_lightning.new import insertion
from ils_lightning.new.names import Names

Kind = Literal["estimator", "module"]
_KIND = "pathwise"  # of the class in the template

_PACKAGED_IMPORTS = """
from ils_lightning.cli import main
from ils_lightning.data import Digits
from ils_lightning.diagnose import gradient_report
from ils_lightning.estimators import Exact, ReinMax
"""


class Part(NamedTuple):
    """A file's new text, and what the file is for, in words."""

    path: Path
    text: str
    purpose: str


class Parts(NamedTuple):
    """The folder that holds all, files to be written in it, files to be changed, and commands to try next."""

    root: Path
    new: list[Part]
    changed: list[Part]
    commands: list[str]


def is_checkout(folder: Path) -> bool:
    """Whether a folder is the root of a checkout of this project."""
    wanted = "ils_lightning/estimators/__init__.py", "tests/examples.py", "configs/estimators"
    return all((folder / one).exists() for one in wanted)


def in_checkout(kind: Kind, root: Path, found: Names) -> Parts:
    """The parts of a new class of the package: each in its place, with what makes it known."""
    return _estimator_in_checkout(root, found) if kind == "estimator" else _module_in_checkout(root, found)


def alone(kind: Kind, folder: Path, found: Names) -> Parts:
    """The parts of a class of one's own: the class, a configuration that trains it, and its test, side by side."""
    name, config = found.of_file, f"{found.of_file}.yaml"
    if kind == "estimator":
        config_text, test = _text("estimator_run.yaml", found), _text("estimator_test.py", found)
    else:
        where = " From this folder:"
        config_text = _text("module.yaml", found, config=config, class_path=f"{name}.{found.of_class}", where=where)
        test = _text(
            "module_test.py",
            found,
            imports=f"{_PACKAGED_IMPORTS.strip()}\n\nfrom {name} import {found.of_class}",
            config_path=f'Path(__file__).with_name("{config}")',
        )
    new = [
        Part(folder / f"{name}.py", _among_packages(_text(f"{kind}.py", found)), "the class: start here"),
        Part(folder / config, config_text, "a configuration that trains it"),
        Part(folder / f"test_{name}.py", test, "its tests"),
    ]
    commands = [
        f"python -m pytest test_{name}.py",
        f"python -m ils_lightning fit --config {config}",
        f"python -m ils_lightning diagnose --config {config} --estimators ReinMax --estimators LeaveOneOut",
    ]
    return Parts(folder, new, [], commands)


def _estimator_in_checkout(root: Path, found: Names) -> Parts:
    name, package, examples = found.of_file, "ils_lightning.estimators", root / "tests/examples.py"
    new = [
        Part(root / f"ils_lightning/estimators/{name}.py", _text("estimator.py", found), "the class: start here"),
        Part(root / f"configs/estimators/{name}.yaml", _text("estimator.yaml", found), "its recommended settings"),
        Part(root / f"tests/formulas/{name}.py", _text("estimator_form.py", found), "its equation, plainly"),
    ]
    entries = _text("estimator.examples", found).splitlines()
    changed = [
        _exported(root, "estimators", found),
        _edited(
            examples,
            "what holds it to the contract",
            lambda text: insertion.member(text, package, found.of_class),
            lambda text: insertion.last_of_list(text, "EXAMPLES", entries),
        ),
        *_in_readme(root / "README.md", found),
    ]
    commands = [
        f"python -m pytest tests -k {found.of_class}",
        f"python -m ils_lightning fit --config vae_digits --model.estimator {found.of_class}",
        f"python -m ils_lightning diagnose --config vae_digits --estimators {found.of_class} --estimators ReinMax",
    ]
    return Parts(root, new, changed, commands)


def _module_in_checkout(root: Path, found: Names) -> Parts:
    name = found.of_file
    config = _text("module.yaml", found, config=name, class_path=found.of_class, where="")
    test = _text(
        "module_test.py",
        found,
        imports=f"\n{_PACKAGED_IMPORTS.strip()}\nfrom ils_lightning.modules import {found.of_class}",
        config_path=f'Path(__file__).parent.parent / "configs" / "{name}.yaml"',
    )
    new = [
        Part(root / f"ils_lightning/modules/{name}.py", _text("module.py", found), "the class: start here"),
        Part(root / f"configs/{name}.yaml", config, "a configuration that trains it"),
        Part(root / f"tests/test_{name}.py", test, "its tests"),
    ]
    commands = [
        f"python -m pytest tests/test_{name}.py",
        f"python -m ils_lightning fit --config {name}",
        f"python -m ils_lightning diagnose --config {name} --estimators ReinMax --estimators LeaveOneOut",
    ]
    return Parts(root, new, [_exported(root, "modules", found)], commands)


def _exported(root: Path, package: str, found: Names) -> Part:
    """The `__init__.py` of a package that imports and exports the class too."""
    module = f"ils_lightning.{package}.{found.of_file}"
    return _edited(
        root / "ils_lightning" / package / "__init__.py",
        "its import",
        lambda text: insertion.import_line(text, module, f"from {module} import {found.of_class}"),
        lambda text: insertion.export(text, found.of_class),
    )


def _edited(path: Path, purpose: str, *edits: Callable[[str], str]) -> Part:
    """A file after these edits; what is wrong with it is said with its name."""
    text = path.read_text(encoding="utf-8")
    try:
        for edit in edits:
            text = edit(text)
    except Refusal as error:
        raise Refusal(f"{path}: {error}") from None
    return Part(path, text, purpose)


def _in_readme(path: Path, found: Names) -> list[Part]:
    """The README with a name more in its list of estimators by kind, which the tests compare with the classes."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    line = re.search(rf"^- \*\*{_KIND}\*\*: (.+)$", text, re.MULTILINE)
    if line is None:
        return []
    link = f"[`{found.of_class}`](ils_lightning/estimators/{found.of_file}.py)"
    links = sorted([*line[1].split(", "), link], key=lambda one: one.split("`")[1].lower())
    return [Part(path, text[: line.start(1)] + ", ".join(links) + text[line.end(1) :], "its name among the estimators")]


def _among_packages(text: str) -> str:
    """Puts the imports of ils_lightning among those of the installed packages, of which it is one elsewhere."""
    lines = text.splitlines()
    own = [line for line in lines if line.startswith("from ils_lightning")]
    first = next(number for number, line in enumerate(lines) if line.startswith(("from lightning", "from torch")))
    block = lines.index(own[0]) - 1  # the blank line before it goes too
    return "\n".join([*lines[:first], *own, *lines[first:block], *lines[block + 1 + len(own) :]]) + "\n"


def _text(template: str, found: Names, **more: str) -> str:
    """A template of the package, filled in."""
    source = (files("ils_lightning.new") / "templates" / f"{template}.txt").read_text(encoding="utf-8")
    return Template(source).substitute(Name=found.of_class, name=found.of_file, **more)
