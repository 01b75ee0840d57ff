"""Callbacks of the command line that keep runs honest."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info

from ils_lightning.callbacks.resumption import nothing_left
from ils_lightning.cli.checkpoints import SECTIONS, serializable
from ils_lightning.cli.log_folders import claim
from ils_lightning.errors import Refusal, cause, is_of_memory, is_of_the_disk
from ils_lightning.vetted import KEY


class SaveConfiguration(SaveConfigCallback):
    """Writes config.yaml beside the logs, where there are logs, and the same settings into every checkpoint."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.loggers:
            super().setup(trainer, pl_module, stage)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the configuration as plain data."""
        checkpoint[KEY] = plain(self.parser, self.config)


class RefusedRun(Callback):
    """Takes back the folder of a run that makes no step, refused or with none left: there is nothing in it to keep."""

    def __init__(self) -> None:
        self._made: list[Path] = []

    def watch(self, trainer: Trainer) -> None:
        """Makes the folders of logs, and notes those that are new; Lightning needs them before it calls callbacks."""
        loggers = trainer.loggers if trainer.is_global_zero else []
        self._made = [folder for logger in loggers if (folder := claim(logger)) is not None]

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Removes the folders where what was asked for is at fault, and the one above if that leaves it empty."""
        if not trainer.global_step and _is_refusal(exception):
            self._take_back(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Removes the folders of a fit that had nothing left to train."""
        if stage == "fit" and nothing_left(trainer):
            self._take_back(trainer)

    def _take_back(self, trainer: Trainer) -> None:
        for logger in trainer.loggers if self._made else ():
            logger.finalize("failed")
        for folder in self._made:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # other runs are there
                folder.parent.rmdir()


class NamedLogs(Callback):
    """Names the file of logs in an error of the disk, where who wrote it did so in a thread that names none."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Notes the file that was written last."""
        found: BaseException | None = exception
        while found is not None:
            if isinstance(found, OSError) and found.filename is None:
                found.filename = _newest_log(trainer)
            found = found.__context__  # loggers meet it as an error of another kind


def _newest_log(trainer: Trainer) -> str:
    folders = [Path(place) for logger in trainer.loggers if isinstance(place := getattr(logger, "log_dir", None), str)]
    files = [path for folder in folders for path in folder.glob("*") if path.is_file()]
    return str(max(files, key=lambda path: path.stat().st_mtime_ns, default="the logs"))


class OwnFiles(Callback):
    """Keeps a checkpoint from naming files to remove: a `ModelCheckpoint` removes what it kept before.

    What a checkpoint says that one had kept is believed where all of it lies in the folder which that one writes to.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Drops states that name other files, before any callback sees them."""
        states = checkpoint["callbacks"]
        for callback in trainer.checkpoint_callbacks:
            for key in (callback.state_key, callback._legacy_state_key):
                if isinstance(callback, ModelCheckpoint) and key in states and not kept_by(callback, states[key]):
                    del states[key]


def kept_by(callback: ModelCheckpoint, state: Any) -> bool:
    """Whether all files that a saved state names lie where `callback` writes, and are named as it names them."""
    if not isinstance(state, dict) or not isinstance(best := state.get("best_k_models", {}), dict):
        return False
    worst = state.get("kth_best_model_path", "")
    named = [state.get("best_model_path", ""), state.get("last_model_path", ""), worst, *best]
    return worst in ("", *best) and all(path == "" or _is_below(callback, path) for path in named)


def _is_below(callback: ModelCheckpoint, path: Any) -> bool:
    folder = f"{callback.dirpath}".rstrip("/\\")
    if not isinstance(path, str) or not path.startswith((f"{folder}/", f"{folder}{os.sep}")):
        return False
    rest = path[len(folder) + 1 :]
    if not rest.endswith(callback.FILE_EXTENSION) or any(mark in rest for mark in ("..", "::", "://", "*", "?")):
        return False
    return "://" in folder or Path(path).resolve().is_relative_to(Path(folder).resolve())


class EndlessData(Callback):
    """Says so where endless training data mean that validation never comes."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the note."""
        if trainer.num_training_batches == trainer.val_check_batch == float("inf") and trainer.enable_validation:
            rank_zero_info("note: the training data have no end, so validation needs --trainer.val_check_interval N")


def _is_refusal(error: BaseException) -> bool:
    """Whether what was asked for is at fault, or the machine has no room for it."""
    refused = isinstance(cause(error), Refusal | MisconfigurationException)
    return refused or is_of_the_disk(error) or is_of_memory(error)


def plain(parser: LightningArgumentParser, config: Any) -> dict[str, Any]:
    """The configuration as data, without what belongs to one invocation."""
    data = yaml.safe_load(parser.dump(config, skip_none=False, skip_validation=True))
    return {part: serializable(data[part]) for part in SECTIONS if part in data}
