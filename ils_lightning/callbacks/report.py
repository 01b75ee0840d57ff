"""What a run says when it ends: a short table, and the module's figures as PNG and SVG."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ils_lightning import plots
from ils_lightning.callbacks.resumption import nothing_left
from ils_lightning.modules.base import DiscreteModule
from ils_lightning.modules.protocols import shown

_FILE = 1000  # columns where no terminal breaks lines


class FitReport(Callback):
    """Prints the result of a fit, where its logs are and where its pictures are.

    Of a fit that goes on from a checkpoint with no step left to train, the line that says so is all: what the
    checkpoint came to is no result of this run.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes pictures and prints the table, on the first rank."""
        folder = trainer.log_dir if trainer.loggers else None  # all ranks take part in this
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        if told := nothing_left(trainer):
            Console(width=_width()).print(told, highlight=False, markup=False)
            return
        own = shown(pl_module, "summary") or logged(trainer)
        rows = {**own, "optimiser steps": f"{trainer.global_step:,}"}
        if folder is not None:
            pictures = self._pictures(pl_module, Path(folder))
            rows |= {"logs": nearby(folder)} | ({"pictures there": ", ".join(pictures)} if pictures else {})
        checkpoint = trainer.checkpoint_callback
        if checkpoint is not None and (best := getattr(checkpoint, "best_model_path", "")):
            rows["best checkpoint"] = nearby(best)
        show("result", rows)
        _tell(pl_module)

    def _pictures(self, module: LightningModule, folder: Path) -> list[str]:
        if not (found := shown(module, "figures")):
            return []
        folder.mkdir(parents=True, exist_ok=True)
        return [plots.save(figure, folder / _of_file(name))[0].name for name, figure in found.items()]


def _of_file(name: str) -> str:
    """A figure's name as that of a file in the run's own folder: names of charts have slashes."""
    return re.sub(r"[/\\\0]+", "-", str(name)).lstrip(".-") or "figure"


class EvaluationReport(Callback):
    """Prints what `test` and `validate` measured, rounded and with units, in place of Lightning's own table."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the table."""
        self._show(trainer, pl_module, "test")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the table, except inside a fit."""
        if trainer.state.fn == "validate":
            self._show(trainer, pl_module, "val")

    def _show(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if not trainer.is_global_zero:
            return
        title = {"test": "test", "val": "validation"}[stage]
        if not isinstance(module, DiscreteModule):
            show(title, logged(trainer))
            return
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(f"{stage}/")}
        rows = [module.in_words(name.removeprefix(f"{stage}/"), value) for name, value in found.items()]
        show(title, dict(rows))
        _tell(module)


def _tell(module: LightningModule) -> None:
    """Prints what a reader must know, if anything."""
    if isinstance(module, DiscreteModule) and (note := module.note()):
        Console(width=_width()).print(f"note: {note}", highlight=False, markup=False)


def _width() -> int | None:
    """Columns to print in: the terminal's, or as many as it takes in a file or a pipe."""
    return None if sys.stdout.isatty() or "COLUMNS" in os.environ else _FILE


def logged(trainer: Trainer) -> dict[str, str]:
    """The last value of every quantity logged, by its name."""
    return {name: f"{float(value):.4g}" for name, value in sorted(trainer.callback_metrics.items())}


def show(title: str, rows: Mapping[str, str]) -> None:
    """Prints a table of quantities and values, if there are any; what is too long is continued on the next line."""
    if not rows:
        return
    table = Table(show_header=False, title=title, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(escape(name), escape(value))
    Console(width=_width()).print(table)


def nearby(path: str | Path) -> str:
    """The path from the working directory, where it is below that."""
    whole = Path(path).absolute()
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else path)
