"""How checkpoints reach the disk."""

from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.plugins import TorchCheckpointIO

from ils_lightning import atomic


class CompleteCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place and moves them into it.

    Lightning's own writer puts them into the system's folder for temporary files first. Where that is another file
    system the move is a copy: a process killed meanwhile, or a full disk, leaves half a checkpoint in place of a good
    one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint to a local path; addresses of object stores are left to Lightning."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        atomic.save(checkpoint, Path(path))


def use_complete_checkpoints(trainer: Trainer) -> None:
    """Makes `trainer` write complete checkpoints, unless its strategy has a way of its own."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = CompleteCheckpoints()
