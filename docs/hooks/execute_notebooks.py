"""Runs the notebooks and keeps them with their outputs: `python docs/hooks/execute_notebooks.py --help`.

The source of a notebook is docs/tutorials/NAME.py, in jupytext's percent format; here NAME.ipynb is made of it.
"""

import base64
import io
import os
from pathlib import Path

import jupytext
import nbformat
from jsonargparse import auto_cli
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).parent.parent / "tutorials"
COLOURS = 64
"""Of a picture, so that it stays small."""


def executed(source: Path) -> NotebookNode:
    """Returns the notebook of a source with the outputs of a fresh kernel, numbered cells and nothing of the machine.

    Raises:
        CellExecutionError: when a cell raises.
    """
    notebook = jupytext.read(source)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = NotebookNode(kernelspec=kernel, language_info={"name": "python"})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem}-{number}"
    os.environ.pop("MPLBACKEND", None)  # figures are to be outputs, whatever the shell prefers
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm's, where there are no widgets
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(FOLDER)}},
    ).execute()
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times of day at which it ran
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
    return notebook


def smaller(picture: str) -> str:
    """Returns a PNG, in base 64, in few colours."""
    image, made = Image.open(io.BytesIO(base64.b64decode(picture))), io.BytesIO()
    image.convert("RGB").quantize(COLOURS).save(made, "png", optimize=True)
    return base64.b64encode(made.getvalue()).decode()


def main(names: list[str] | None = None, folder: Path = FOLDER) -> None:
    """Executes notebooks and writes them.

    Args:
        names: of the sources, without an ending; all unless given.
        folder: where the notebooks go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted(FOLDER.glob("*.py")):
        if names is None or source.stem in names:
            path = folder / f"{source.stem}.ipynb"
            nbformat.write(executed(source), path)
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    auto_cli(main)
