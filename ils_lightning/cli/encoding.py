"""`encode` as a verb of LightningCLI: model, data and checkpoint are named as for `test`."""

from collections.abc import Mapping
from typing import Any, ClassVar, get_type_hints

from lightning import LightningDataModule, LightningModule

from ils_lightning.cli.training import CommandLine, Parser, run_command_line
from ils_lightning.encode import EncodingTrainer


class EncodingParser(Parser):
    """The parser of `encode`, which knows the types of its options."""

    roots: ClassVar[Mapping[str, Any]] = {**get_type_hints(EncodingTrainer.encode), **Parser.roots}


class EncodingCommandLine(CommandLine):
    """LightningCLI with the one verb `encode`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"encode": {"model", "datamodule"}}


def run(words: list[str]) -> None:
    """Runs `encode`; mistakes in what was typed end in one line and exit status 2."""
    run_command_line(
        EncodingCommandLine, LightningModule, LightningDataModule, words, EncodingParser, trainer_class=EncodingTrainer
    )
