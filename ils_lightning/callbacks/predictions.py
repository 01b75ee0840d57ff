"""What `predict` computed, as a file."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from rich.console import Console

from ils_lightning import atomic
from ils_lightning.callbacks.report import nearby
from ils_lightning.errors import are


class SavePredictions(Callback):
    """Saves what predict_step returned, one entry a batch, as predictions.pt beside the logs, and says where."""

    def __init__(self) -> None:
        self._batches: list[Any] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets what an earlier prediction left."""
        self._batches = []

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Keeps a batch's answer on the CPU."""
        self._batches.append(_to_cpu(outputs))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file of this rank, in place only when complete."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        name = "predictions.pt" if trainer.world_size == 1 else f"predictions-{trainer.global_rank}.pt"
        atomic.save(self._batches, folder / name)
        batches = are(len(self._batches), "batch of predictions", "batches of predictions")
        told = f"{batches} in {nearby(folder / name)}"
        Console().print(told, soft_wrap=True, markup=False)


def _to_cpu(value: Any) -> Any:
    """Moves the tensors in `value` to the CPU; named tuples become dictionaries, which load as plain data."""
    return move_data_to_device(value._asdict() if hasattr(value, "_asdict") else value, torch.device("cpu"))
