"""`python -m ils_lightning compare FILE`: estimators x settings x seeds through the Trainer, and their report."""

import gc
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from ils_lightning import atomic, packaged, plots
from ils_lightning.callbacks.interruption import ended_like_by_ctrl_c
from ils_lightning.compare import launchers
from ils_lightning.compare.grid.keys import overrides
from ils_lightning.compare.grid.spec import Comparison, Level, Range, Run, Search, Settings, Tune, read
from ils_lightning.compare.launchers import Launch
from ils_lightning.compare.report import figure, page, ranking, screen, table, tensorboard, wide
from ils_lightning.compare.report.curves import Curve, curves
from ils_lightning.compare.report.table import Row
from ils_lightning.compare.runner import Runner
from ils_lightning.compare.training.outcome import Outcome, counted, in_order, missing
from ils_lightning.errors import Refusal, is_of_the_place
from ils_lightning.extras import require

_MOST_TO_DO = 8  # lines on the screen
_TO_DO = "not trained yet: "

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
    """Runs a comparison file and writes tables, figures, a page and TensorBoard runs; started again, it resumes.

    Every training runs on one thread and gives the same result whatever the launcher and the number of workers. Several
    comparisons may share a folder: what one of them trains, the others wait for. The report of a part holds whatever
    else of the same comparison is finished in the folder.

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

    Raises:
        ValueError: when something in the file is at fault, before anything is trained; when all is reported, where a
            training ended in an error.
    """
    gc.freeze()  # what the imports made is there to stay: no collection need look through it again
    changed = overrides(override or [])
    whole = read(file).select(overrides=changed)
    wanted = runs, settings, seeds
    part = whole.select(*wanted) if any(wanted) else whole
    folder = folder or Path("lightning_logs") / "compare" / Path(file).stem
    launch = launchers.launch(launcher, folder, workers, overrides(launcher_options or []))
    broken: list[str] = []
    unwritten: list[str] = []
    with ended_like_by_ctrl_c():
        if tune is not None:
            whole = _tuned(file, part, tune, folder, launch, broken)
            part = whole.select(*wanted) if any(wanted) else whole
        broken += _compare(file, whole, part, folder, launch, unwritten)
    told = []
    if unwritten:
        told.append(f"of the report, all is written but what follows; move it away: {'; '.join(unwritten)}")
    if broken:
        told.append(
            f"{len(broken)} of the trainings ended in an error; the next start tries again. The first: {broken[0]}"
        )
    if told:
        raise Refusal(". ".join(told))
    return folder


def _compare(
    file: str, whole: Comparison, part: Comparison, folder: Path, launch: Launch, unwritten: list[str]
) -> list[str]:
    """Trains a part of a comparison, reports it with what else of the whole is finished, and returns what broke."""
    runner = Runner(part, folder.resolve() / "runs", launch)
    found, tuning = runner.run(), runner.tuning
    if part is not whole:
        there = Runner(whole, folder.resolve() / "runs", launch)
        found = in_order(whole, [*found, *there.finished()])
        tuning = there.tuning
    content = packaged.find(file, "comparison").read_text(encoding="utf-8")
    unwritten += _report(whole, part, found, tuning, folder, content)
    return runner.broken


def _tuned(
    file: str, comparison: Comparison, trials: int, folder: Path, launch: Launch, broken: list[str]
) -> Comparison:
    """Returns the comparison with the options that a search chose, as tuned.yaml in the folder has it."""
    require("optuna", "--tune", "tune")
    from ils_lightning.compare.tuning import tuned, tuner

    search = tuner.Tuner(comparison, trials, folder.resolve(), launch)
    search.run()
    broken += search.broken
    return read(str(tuned.report(file, search, folder, Console())))


def _report(
    comparison: Comparison,
    asked: Comparison,
    outcomes: list[Outcome],
    tuning: list[Outcome],
    folder: Path,
    file: str,
) -> list[str]:
    """Writes every part of the report that can be written, and returns why the others cannot."""
    found = curves(comparison, outcomes)
    rows = table.rows(comparison, found)
    to_do = [f"{_TO_DO}{line}" for line in missing(comparison, outcomes)]
    texts = {
        "results.csv": table.raw(outcomes),
        "table.csv": table.comma_separated(rows),
        "table.md": table.markdown(rows),
        "ranking.md": wide.markdown(rows),
        **({"tuning.csv": table.raw(tuning)} if tuning else {}),
    }
    unwritten = _written(partial(atomic.write_text, text, folder / name) for name, text in texts.items())
    console = Console()
    screen.show(rows, console)
    figures = _figures(comparison, found, rows)
    unwritten += _written(partial(plots.save, drawn, folder / name) for name, (drawn, _) in figures.items())
    whole_page = page.page(comparison, rows, figures, file, to_do)
    unwritten += _written(
        [
            partial(tensorboard.write, folder / "tensorboard", found, rows, comparison),
            partial(atomic.write_text, whole_page, folder / "report.html"),
        ]
    )
    if len(to_do) > _MOST_TO_DO:
        number = f"{_TO_DO}{counted(comparison, outcomes)}; report.html lists them"
        # of what was asked for only what a launcher lost is missing: few lines
        to_do = [*(f"{_TO_DO}{line}" for line in missing(asked, outcomes)), number]
    _tell(to_do, folder, console)
    return unwritten


def _written(parts: Iterable[Callable[[], object]]) -> list[str]:
    """Writes parts of a report; what stands in the way of one, such as a folder of its name, keeps no other back."""
    unwritten = []
    for write in parts:
        try:
            write()
        except OSError as error:
            if not is_of_the_place(error):
                raise
            unwritten.append(f"{error.filename}: {error.strerror}")
    return unwritten


def _tell(to_do: list[str], folder: Path, console: Console) -> None:
    """Says on the screen what is left to do, and where everything is."""
    for line in to_do:
        console.print(line, highlight=False, markup=False)
    told = f"tables, figures, a page and TensorBoard runs are in {folder}"
    console.print(told, highlight=False, soft_wrap=True, markup=False)


def _figures(comparison: Comparison, found: list[Curve], rows: list[Row]) -> dict[str, tuple[Figure, Figure]]:
    """The figures by name of file, each for a wide page and a narrow one; none where nothing came to a result."""
    if not any(row.seeds for row in rows):
        return {}
    forms = {"ranking": partial(ranking.draw, comparison, rows)} if comparison.measure else {}
    forms["figure"] = partial(figure.draw, comparison, found)
    return {name: (draw(), draw(narrow=True)) for name, draw in forms.items()}
