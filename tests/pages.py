"""The README and the pages of docs/ in pieces: blocks of code, commands, links, headings."""

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
GENERATED = ("estimators", "api", "tutorials")
"""Folders of docs/ whose pages are generated, or tried by tests of their own."""

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"(?:^|\s)-m ils_lightning(?= |$)")
_PROGRAM = re.compile(r"\bpython (?!-)([\w./]+\.py)\b|\bpython -m (ils_lightning\.[\w.]+)")


@dataclass(frozen=True)
class Page:
    """A page of Markdown."""

    path: Path

    @property
    def name(self) -> str:
        """Its path from the root of the project."""
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    def blocks(self, *languages: str) -> list[str]:
        """Its blocks of code in these languages, from the left margin; `""` is a block that names none."""
        return [textwrap.dedent(code) for _, language, code in _FENCE.findall(self.text) if language in languages]

    @property
    def prose(self) -> str:
        """All that is no block of code."""
        return _FENCE.sub("", self.text)

    def commands(self) -> list[list[str]]:
        """The words behind `-m ils_lightning` of every command, in blocks and in prose."""
        found = []
        for code in self.blocks("bash", "console", "shell", ""):
            found += re.split(r"&&|;|\n", code.replace("\\\n", " "))
        found += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", self.prose)]
        words = [
            shlex.split(_COMMAND.split(one, maxsplit=1)[1], comments=True) for one in found if _COMMAND.search(one)
        ]
        return [one for one in words if one]

    def programs(self) -> list[str]:
        """The files that `python` runs, and the modules of the package that `python -m` does."""
        return [path or module for path, module in _PROGRAM.findall(self.text)]

    def links(self) -> list[str]:
        """Targets of its links and pictures, but for those in the web."""
        return [link for link in _LINK.findall(self.prose) if "://" not in link and not link.startswith("mailto:")]

    def anchors(self) -> set[str]:
        """What a link may name behind `#`: the headings, as both GitHub and mkdocs call them."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[ -]+", "-", re.sub(r"[^\w\s-]", "", one).strip().lower()) for one in headings}


def pages() -> list[Page]:
    """The README and every page of docs/ that is committed."""
    docs = sorted((ROOT / "docs").rglob("*.md"))
    written = [path for path in docs if path.relative_to(ROOT / "docs").parts[0] not in GENERATED]
    return [Page(ROOT / "README.md"), *map(Page, written)]
