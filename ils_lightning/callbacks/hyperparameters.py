"""A run's options beside its results: its line in TensorBoard's table of hyperparameters."""

import inspect
import os
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from ils_lightning import tensorboard_session
from ils_lightning.modules.base import DiscreteModule


class Hyperparameters(Callback):
    """Writes the run's options when training starts, and what it came to when it ends; silent under other loggers.

    Runs of different estimators line up: `estimator` is the name and `estimator.<option>` its options, defaults
    included; `model.<option>`, `optimizer.<option>`, `trained_on.<option>` (the data), `trainer.<option>` and `seed`
    follow. Results are `at_end/val_<name>` and `at_end/best_val_<name>` of the quantity the module monitors, and
    `at_end/test_<name>` where a test follows the fit; without validation `at_end/train_loss`.
    """

    def __init__(self) -> None:
        self._best: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the line, so that a run which is interrupted has one."""
        if isinstance(pl_module, DiscreteModule):
            for logger in _tensorboards(trainer):
                tensorboard_session.begin(logger.experiment, table_line(trainer, pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the best value."""
        value = trainer.callback_metrics.get(getattr(pl_module, "monitor", ""))
        if value is not None and not trainer.sanity_checking and trainer.state.fn == "fit":
            self._best = float(value) if self._best is None else min(self._best, float(value))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the line with what was measured last."""
        if not isinstance(pl_module, DiscreteModule):
            return
        last, name = trainer.callback_metrics, pl_module.monitor
        found = {f"at_end/{name.replace('/', '_')}": last.get(name)}
        found |= {f"at_end/best_{name.replace('/', '_')}": self._best}
        if found := {tag: value for tag, value in found.items() if value is not None} or _training_loss(last):
            self._write(trainer, found)
        for logger in _tensorboards(trainer):
            tensorboard_session.end(logger.experiment)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the test's value of the same quantity, after a fit only: a test alone is no run with options."""
        name = getattr(pl_module, "monitor", "").replace("val/", "test/")
        if trainer.fit_loop.epoch_progress.total.ready and name in trainer.callback_metrics:
            self._write(trainer, {f"at_end/{name.replace('/', '_')}": trainer.callback_metrics[name]})

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = state_dict["best"]

    def _write(self, trainer: Trainer, found: dict[str, Any]) -> None:
        for logger in _tensorboards(trainer):
            logger.log_metrics({tag: float(value) for tag, value in found.items()}, trainer.global_step)


def table_line(trainer: Trainer, module: DiscreteModule) -> dict[str, Any]:
    """Returns all options of a run by flat names."""
    line: dict[str, Any] = {"model": type(module).__name__, "seed": _number(os.environ.get("PL_GLOBAL_SEED"))}
    for name, value in module.hparams.items():
        if name not in ("estimator", "optimizer", "lr_scheduler") and not name.startswith("_"):
            line[f"model.{name}"] = value
    line |= tensorboard_session.flat("lr_scheduler", module.hparams.get("lr_scheduler"))
    line |= tensorboard_session.flat("estimator", module.estimator)
    for optimizer in trainer.optimizers[:1]:
        chosen = {name: value for name, value in optimizer.defaults.items() if value is not None and value is not False}
        line |= {"optimizer": type(optimizer).__name__} | {f"optimizer.{name}": one for name, one in chosen.items()}
    for name in ("max_epochs", "max_steps", "gradient_clip_val"):
        line[f"trainer.{name}"] = _number(getattr(trainer, name))
    return line | _of_data(getattr(trainer, "datamodule", None))


def _number(value: Any) -> float | None:
    """A setting of Lightning's as a number; -1 and None are its words for no limit."""
    return None if value in (None, -1) else float(value)


def _of_data(data: Any) -> dict[str, Any]:
    """The data and those of their options that are kept as attributes."""
    if data is None:
        return {}
    given = {name: getattr(data, name, None) for name in inspect.signature(type(data)).parameters}
    plain = {name: value for name, value in given.items() if isinstance(value, bool | int | float | str)}
    return {"trained_on": type(data).__name__} | {f"trained_on.{name}": value for name, value in plain.items()}


def _training_loss(measured: dict[str, Any]) -> dict[str, Any]:
    return {"at_end/train_loss": measured["train/loss"]} if "train/loss" in measured else {}


def _tensorboards(trainer: Trainer) -> list[TensorBoardLogger]:
    """The loggers to write to: none on other ranks."""
    return [one for one in trainer.loggers if isinstance(one, TensorBoardLogger) and trainer.is_global_zero]
