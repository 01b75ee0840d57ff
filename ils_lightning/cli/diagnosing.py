"""`diagnose` as a verb of LightningCLI: model, data and checkpoint are named as for `fit`, by any LightningModule."""

from collections.abc import Mapping
from typing import Any, ClassVar, get_type_hints

from lightning import LightningDataModule, LightningModule, Trainer

from ils_lightning.cli.training import CommandLine, Parser, run_command_line
from ils_lightning.diagnose.command import DiagnosingTrainer


class DiagnosingParser(Parser):
    """The parser of `diagnose`, which knows the types of its options."""

    roots: ClassVar[Mapping[str, Any]] = {**get_type_hints(DiagnosingTrainer.diagnose), **Parser.roots}


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
        DiagnosingCommandLine,
        LightningModule,
        LightningDataModule,
        words,
        DiagnosingParser,
        trainer_class=DiagnosingTrainer,
    )
