"""Every last.ckpt that a run writes, kept: each is what a kill at some moment would have left."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ils_lightning.checkpoint_io import CompleteCheckpoints

PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "random_states", "curve", "global_step")
"""What has to be the same, bit for bit, in the last checkpoints of a resumed and of an uninterrupted run."""


def parts(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What two such checkpoints are compared by: PARTS, and the step at which the next figure is logged."""
    logged = checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"]
    return {**{part: checkpoint[part] for part in PARTS}, "logged step": logged}


def copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a folder to which every last.ckpt that is written from now on is copied, numbered; returns it."""
    save = CompleteCheckpoints.save_checkpoint
    folder.mkdir()

    def save_and_copy(self: CompleteCheckpoints, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        save(self, checkpoint, path, storage_options)
        if Path(path).name == "last.ckpt":
            shutil.copy(path, folder / f"{len(list(folder.iterdir())):02}.ckpt")

    monkeypatch.setattr(CompleteCheckpoints, "save_checkpoint", save_and_copy)
    return folder
