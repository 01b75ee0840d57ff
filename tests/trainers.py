"""Trainers for tests: silent, on the CPU."""

from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


def quiet_trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    """A silent Trainer that logs nothing unless told to, and keeps a checkpoint where a callback does."""
    silent: dict[str, Any] = {
        "default_root_dir": folder,
        "accelerator": "cpu",
        "num_sanity_val_steps": 0,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(one, ModelCheckpoint) for one in callbacks),
    }
    return Trainer(callbacks=[*callbacks], **{**silent, **options})


def stepwise_trainer(folder: Path, steps: int, *callbacks: Callback, **options: Any) -> Trainer:
    """The same for models that are trained for so many steps, with a validation after each batch and last.ckpt."""
    often: dict[str, Any] = {"max_steps": steps, "val_check_interval": 1, "check_val_every_n_epoch": None}
    return quiet_trainer(folder, *callbacks, keep_last(folder), **{**often, **options})


def keep_last(folder: Path) -> ModelCheckpoint:
    """Keeps last.ckpt in the folder."""
    return ModelCheckpoint(folder, save_last=True, save_top_k=0)
