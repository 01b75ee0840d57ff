"""What mkdocs calls while it builds the site: pages that are made of the code, formulas, and the checks."""

import re
from typing import Any

import cards
import mathematics
import notebooks
import reference
import verbs
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from ils_lightning.estimators import table
from ils_lightning.packaged import folder

_COOKBOOK = """# Cookbook

Each page is one question and one script of at most 40 lines, which a test runs.

"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Checks the public names, and fills in the sections of the menu whose pages are made or found."""
    if faults := [*reference.faults(), *without_equation()]:
        raise PluginError("\n".join(faults))
    config.nav = [_filled(entry, config) for entry in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    for notebook in [one for one in files if one.src_uri.endswith(".ipynb")]:
        files.remove(notebook)
        for path, content in notebooks.pages(notebook).items():
            files.append(File.generated(config, path, content=content))
    made = {**cards.pages(), **reference.pages(), "verbs.md": verbs.page(), "changelog.md": changelog()}
    made["cookbook/index.md"] = cookbook(files)
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns formulas into MathML, and lets wide tables be moved sideways."""
    try:
        return mathematics.rendered(html)
    except ValueError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error


def without_equation() -> list[str]:
    """Returns what is to be said of estimators that hold no formula of their own."""
    missing = [kind.__name__ for kind in table.classes() if not vars(kind).get("equation")]
    return [f"{name} has no `equation`" for name in missing]


def changelog() -> str:
    """Returns the page of changes, which is the file of the repository."""
    return (folder().parent / "CHANGELOG.md").read_text(encoding="utf-8")


def cookbook(files: Files) -> str:
    """Returns the list of the pages of the cookbook: their titles, and what their first sentence says."""
    rows = [f"- **[{title}]({name})**: {said}" for name, title, said in _recipes(files)]
    return _COOKBOOK + "\n".join(rows) + "\n"


def _recipes(files: Files) -> list[tuple[str, str, str]]:
    pages = sorted(one.src_uri for one in files.documentation_pages() if one.src_uri.startswith("cookbook/"))
    found = []
    for uri in pages:
        text = files.get_file_from_path(uri).content_string  # pyright: ignore[reportOptionalMemberAccess]
        _, title, rest = re.split(r"^# (.*)\n", text, maxsplit=1, flags=re.MULTILINE)
        paragraph = " ".join(rest.strip().split("\n\n")[0].split())
        sentence = re.split(r"(?<=[.:])\s+(?=[A-Z`*-]|$)", paragraph)[0]
        found.append((uri.removeprefix("cookbook/"), title, f"{sentence.rstrip(':.')}."))
    return found


def _filled(entry: Any, config: MkDocsConfig) -> Any:
    """An entry of the menu; a star in a list stands for the pages of that section."""
    if isinstance(entry, dict):
        return {title: _filled(value, config) for title, value in entry.items()}
    if not isinstance(entry, list):
        return entry
    found = []
    for one in entry:
        found += _star(one, config) if isinstance(one, str) and one.endswith("/*") else [_filled(one, config)]
    return found


def _star(pattern: str, config: MkDocsConfig) -> list[Any]:
    section = pattern.removesuffix("*")
    if section == "estimators/":
        return [{kind.capitalize(): _of_kind(kind)} for kind in cards.KINDS]
    if section == "api/":
        return sorted(path for path in reference.pages() if path != "api/index.md")
    return sorted(notebooks.found(config.docs_dir, section))


def _of_kind(kind: str) -> list[str]:
    return [f"estimators/{row.name}.md" for row in table.rows() if row.kind == kind]
