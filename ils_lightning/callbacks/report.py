"""What a run says when it ends: a short table, and the module's figures as PNG and SVG."""

from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from ils_lightning import plots
from ils_lightning.modules.base import DiscreteModule


class FitReport(Callback):
    """Prints the result of a fit, where its logs are and where its pictures are."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes pictures and prints the table, on the first rank."""
        folder = trainer.log_dir if trainer.loggers else None  # all ranks take part in this
        if not trainer.is_global_zero or not isinstance(pl_module, DiscreteModule) or trainer.sanity_checking:
            return
        rows = {**pl_module.summary(), "optimiser steps": f"{trainer.global_step:,}"}
        if folder is not None:
            rows |= {"logs": folder, "pictures": ", ".join(self._pictures(pl_module, Path(folder)))}
        checkpoint = trainer.checkpoint_callback
        if checkpoint is not None and getattr(checkpoint, "best_model_path", ""):
            rows["best checkpoint"] = str(checkpoint.best_model_path)  # type: ignore[attr-defined]
        table = Table(show_header=False, title="result", title_justify="left")
        for name, value in rows.items():
            table.add_row(name, value)
        Console().print(table)

    def _pictures(self, module: DiscreteModule, folder: Path) -> list[str]:
        folder.mkdir(parents=True, exist_ok=True)
        return [str(plots.save(figure, folder / name)[0]) for name, figure in module.figures().items()]
