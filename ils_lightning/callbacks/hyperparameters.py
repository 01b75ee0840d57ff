"""The run's options beside its result, for TensorBoard's table of hyperparameters."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from ils_lightning.modules.base import DiscreteModule


class Hyperparameters(Callback):
    """Logs the module's options with the last value of its monitored quantity, so that runs can be compared.

    Without validation it is the training loss.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the table's row for this run, where the quantity was measured."""
        measured = trainer.callback_metrics
        names = [name for name in (getattr(pl_module, "monitor", None), "train/loss") if name in measured]
        if not isinstance(pl_module, DiscreteModule) or not names:
            return
        result = {names[0]: float(measured[names[0]])}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(_flat(pl_module.hparams), result, step=trainer.global_step)


def _flat(options: Any, prefix: str = "") -> dict[str, Any]:
    """Turns nested options into one level: a class counts by its bare name, its arguments by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in dict(options).items():
        if name.startswith("_"):
            continue
        if isinstance(value, dict) and "class_path" in value:
            flat[prefix + name] = value["class_path"].rsplit(".", 1)[-1]
            flat |= _flat(value.get("init_args") or {}, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
