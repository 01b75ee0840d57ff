"""`diagnose` as a verb of LightningCLI: model, data and checkpoint are named as for `fit`, by any LightningModule."""

from typing import Any

from lightning import LightningDataModule, LightningModule, Trainer

from ils_lightning.cli.training import CommandLine, run_command_line
from ils_lightning.diagnose.command import DiagnosingTrainer


class DiagnosingCommandLine(CommandLine):
    """LightningCLI with the one verb `diagnose`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"diagnose": {"model", "datamodule"}}

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Lets the Trainer know what it was configured with, for its report."""
        trainer: Any = super().instantiate_trainer(**kwargs)
        trainer.configuration = self._configuration()
        return trainer


def run(words: list[str]) -> None:
    """Runs `diagnose`; mistakes in what was typed end in one line and exit status 2."""
    run_command_line(
        DiagnosingCommandLine, LightningModule, LightningDataModule, words, trainer_class=DiagnosingTrainer
    )
