"""`python -m ils_lightning compare FILE`: estimators x settings x seeds through the Trainer, and their report."""

from pathlib import Path

from rich.console import Console

from ils_lightning import plots
from ils_lightning.compare import figure, report
from ils_lightning.compare.runner import Runner
from ils_lightning.compare.spec import Comparison, Run, Settings, Tune, read

__all__ = ["Comparison", "Run", "Settings", "Tune", "compare"]


def compare(file: str, folder: Path | None = None) -> Path:
    """Runs a comparison file and writes table, figure and TensorBoard runs; started again, it resumes.

    Args:
        file: a comparison file, or the name of a packaged one, such as compare/toy1.
        folder: where to write; lightning_logs/compare/NAME unless given.

    Returns:
        The folder.
    """
    comparison = read(file)
    folder = folder or Path("lightning_logs") / "compare" / Path(file).stem
    results = Runner(comparison, folder / "runs").run()
    curves = report.curves(comparison, results)
    rows = [report.row(curve) for curve in curves]
    _put(folder / "table.csv", report.comma_separated(rows))
    _put(folder / "table.md", report.markdown(rows))
    plots.save(figure.draw(comparison, curves), folder / "figure")
    report.tensorboard(folder / "tensorboard", curves, rows, comparison)
    console = Console()
    console.print(report.screen(rows))
    console.print(f"table, figure and TensorBoard runs are in {folder}", highlight=False, soft_wrap=True)
    return folder


def _put(target: Path, text: str) -> None:
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)
