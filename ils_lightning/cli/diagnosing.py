"""`diagnose` as a verb of LightningCLI: model, data and checkpoint are named as for `fit`, by any LightningModule."""

from lightning import LightningDataModule, LightningModule

from ils_lightning.cli.training import CommandLine, run_command_line
from ils_lightning.diagnose.command import DiagnosingTrainer


class DiagnosingCommandLine(CommandLine):
    """LightningCLI with the one verb `diagnose`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"diagnose": {"model", "datamodule"}}


def run(words: list[str]) -> None:
    """Runs `diagnose`; mistakes in what was typed end in one line and exit status 2."""
    run_command_line(
        DiagnosingCommandLine, LightningModule, LightningDataModule, words, trainer_class=DiagnosingTrainer
    )
