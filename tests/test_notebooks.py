"""The notebooks: each runs, is kept with its outputs, and shows tables and pictures, with nothing on standard error."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "tutorials"
SOURCES = sorted(FOLDER.glob("*.py"))
PICTURES = {"dreamer": 2, "gumbel_softmax": 3, "own_encoder": 1, "own_loss": 2, "read_report": 1}
TABLES = {"gumbel_softmax", "own_loss", "read_report"}


def kept(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def outputs(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def look_at(name: str, path: Path) -> None:
    """Asks for what a reader is to see."""
    found = outputs(kept(path))
    kinds = [kind for output in found for kind in output.get("data", {})]
    assert kinds.count("image/png") == PICTURES[name]
    assert kinds.count("text/html") == (name in TABLES)
    assert {output.get("name", "stdout") for output in found} == {"stdout"}
    assert not any("\r" in "".join(output.get("text", "")) for output in found)  # bars
    assert path.stat().st_size < 300_000


def test_every_notebook_is_looked_at():
    assert [source.stem for source in SOURCES] == sorted(PICTURES)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_notebook_is_kept_with_the_outputs_of_its_source(source: Path):
    jupytext = pytest.importorskip("jupytext", reason="notebooks are an optional part")
    path = source.with_suffix(".ipynb")
    look_at(source.stem, path)
    written = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in kept(path)["cells"]] == written
    assert str(ROOT.parent) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [pytest.param(one.stem, marks=pytest.mark.long) for one in SOURCES])
def test_notebook_runs(name: str, tmp_path: Path):
    for part in ("jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(part, reason="notebooks are an optional part")
    command = [sys.executable, ROOT / "docs" / "hooks" / "execute_notebooks.py", "--names", json.dumps([name])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([*command, "--folder", tmp_path], check=True, env=environment, capture_output=True, timeout=300)
    look_at(name, tmp_path / f"{name}.ipynb")
