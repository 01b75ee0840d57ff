"""`python -m ils_lightning compare FILE`: estimators x settings x seeds through the Trainer, and their report."""

from pathlib import Path

from rich.console import Console

from ils_lightning import atomic, plots
from ils_lightning.compare import figure, launchers, ranking, screen, table, tensorboard, wide
from ils_lightning.compare.curves import curves
from ils_lightning.compare.extras import require
from ils_lightning.compare.files import overrides
from ils_lightning.compare.launchers import Launch
from ils_lightning.compare.outcome import Outcome
from ils_lightning.compare.runner import Runner
from ils_lightning.compare.spec import Comparison, Level, Range, Run, Search, Settings, Tune, read

__all__ = ["Comparison", "Level", "Range", "Run", "Search", "Settings", "Tune", "compare"]


def compare(
    file: str,
    folder: Path | None = None,
    runs: list[str] | None = None,
    settings: list[str] | None = None,
    seeds: list[int] | None = None,
    override: list[str] | None = None,
    tune: int | None = None,
    workers: int | None = None,
    launcher: str = "pool",
    launcher_options: list[str] | None = None,
) -> Path:
    """Runs a comparison file and writes tables, figures and TensorBoard runs; started again, it resumes.

    Every training runs on one thread and gives the same result whatever the launcher and the number of workers. Several
    comparisons may share a folder: what one of them trains, the others wait for.

    Args:
        file: a comparison file, or the name of a packaged one, such as compare/toy1.
        folder: where to write; lightning_logs/compare/NAME unless given.
        runs: names of the runs to do; all unless given. May be repeated.
        settings: names of the settings to do; all unless given. May be repeated.
        seeds: reporting seeds to do; all unless given. May be repeated.
        override: dotted key and value for all runs, such as trainer.max_epochs=2. May be repeated.
        tune: trials for each run and setting, in which the learning rate and the estimator's own option (or what the
            file's `search` says) are chosen on tuning seeds before the reporting seeds are run; needs Optuna.
        workers: trainings at a time; on this machine the number of cores less one unless given, and at least one.
        launcher: what trains: processes of this machine (pool), tasks of a SLURM array (submitit), or a Ray cluster.
        launcher_options: key and value for submitit, such as partition=gpu, timeout_min=60, mem_gb=4, or cluster=local
            to try it without SLURM; for ray.init, such as address=auto, with ray. May be repeated.

    Returns:
        The folder.
    """
    comparison = read(file).select(runs, settings, seeds, overrides(override or []))
    folder = folder or Path("lightning_logs") / "compare" / Path(file).stem
    launch = launchers.launch(launcher, folder, workers, overrides(launcher_options or []))
    if tune is not None:
        comparison = _tuned(file, comparison, tune, folder, launch).select(runs, settings, seeds)
    runner = Runner(comparison, folder.resolve() / "runs", launch)
    _report(comparison, runner.run(), runner.tuning, folder)
    return folder


def _tuned(file: str, comparison: Comparison, trials: int, folder: Path, launch: Launch) -> Comparison:
    """Returns the comparison with the options that a search chose, as tuned.yaml in the folder has it."""
    require("optuna", "--tune", "tune")
    from ils_lightning.compare import tuned, tuner

    search = tuner.Tuner(comparison, trials, folder.resolve(), launch)
    search.run()
    return read(str(tuned.report(file, search, folder, Console())))


def _report(comparison: Comparison, outcomes: list[Outcome], tuning: list[Outcome], folder: Path) -> None:
    found = curves(comparison, outcomes)
    rows = table.rows(comparison, found)
    atomic.write_text(table.raw(outcomes), folder / "results.csv")
    atomic.write_text(table.comma_separated(rows), folder / "table.csv")
    atomic.write_text(table.markdown(rows), folder / "table.md")
    atomic.write_text(wide.markdown(rows), folder / "ranking.md")
    if tuning:
        atomic.write_text(table.raw(tuning), folder / "tuning.csv")
    console = Console()
    screen.show(rows, console)
    if any(row.seeds for row in rows):
        plots.save(figure.draw(comparison, found), folder / "figure")
        if comparison.measure:
            plots.save(ranking.draw(comparison, rows), folder / "ranking")
        tensorboard.write(folder / "tensorboard", found, rows, comparison)
    console.print(f"tables, figures and TensorBoard runs are in {folder}", highlight=False, soft_wrap=True)
