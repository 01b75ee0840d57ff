"""Notebooks as pages: text, code and outputs, as they were saved."""

from pathlib import Path
from posixpath import dirname

from mkdocs.structure.files import File
from nbconvert import MarkdownExporter


def pages(notebook: File) -> dict[str, str | bytes]:
    """Returns the page of a notebook and its pictures, by path."""
    name = Path(notebook.src_uri).stem
    resources = {"output_files_dir": f"{name}_files", "unique_key": name}
    text, made = MarkdownExporter().from_filename(str(notebook.abs_src_path), resources=resources)
    pictures = {f"{dirname(notebook.src_uri)}/{path}": data for path, data in made["outputs"].items()}
    return {str(Path(notebook.src_uri).with_suffix(".md").as_posix()): text, **pictures}


def found(docs: str, section: str) -> set[str]:
    """Returns the pages of a section: its Markdown files and its notebooks, but for the section's own page."""
    files = [path for suffix in ("md", "ipynb") for path in Path(docs, section).glob(f"*.{suffix}")]
    return {f"{section}{path.stem}.md" for path in files if path.stem != "index"}
