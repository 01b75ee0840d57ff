"""Callbacks of the command line that keep runs honest."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info

from ils_lightning.cli.checkpoints import KEY, SECTIONS
from ils_lightning.cli.errors import is_of_memory, is_of_the_disk
from ils_lightning.errors import Refusal, cause


class SaveConfiguration(SaveConfigCallback):
    """Writes config.yaml beside the logs, where there are logs, and the same settings into every checkpoint."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.loggers:
            super().setup(trainer, pl_module, stage)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the configuration as plain data."""
        checkpoint[KEY] = plain(self.parser, self.config)


class RefusedRun(Callback):
    """Takes back the folder of a run that is refused before its first step: there is nothing in it to keep."""

    def __init__(self) -> None:
        self._made: list[Path] = []

    def watch(self, trainer: Trainer) -> None:
        """Notes which folders of logs are about to be made; Lightning makes them before any callback is called."""
        folders = [Path(folder) for logger in trainer.loggers if (folder := getattr(logger, "log_dir", None))]
        self._made = [folder for folder in folders if not folder.exists()] if trainer.is_global_zero else []

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Removes the folders where what was asked for is at fault, and the one above if that leaves it empty."""
        if trainer.global_step or not self._made or not _is_refusal(exception):
            return
        for logger in trainer.loggers:
            logger.finalize("failed")
        for folder in self._made:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # other runs are there
                folder.parent.rmdir()


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
    return {part: data[part] for part in SECTIONS if part in data}
