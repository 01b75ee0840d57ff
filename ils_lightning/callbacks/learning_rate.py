"""The learning rate that a scheduler sets."""

from typing import Any, ClassVar

from lightning import Callback, LightningModule, Trainer

from ils_lightning.modules.base import Charts


class LearningRate(Callback):
    """Logs `train/learning_rate` where there is a scheduler, every so many optimiser steps as the Trainer logs.

    Further groups of parameters have a number: `train/learning_rate_1`. Steps are optimiser steps, also of modules that
    take several in one training step.

    Example:
        >>> list(LearningRate.charts["training"])
        ['learning rate']
    """

    charts: ClassVar[Charts] = {"training": {"learning rate": [r"train/learning_rate(_\d+)?"]}}

    def __init__(self) -> None:
        self._logged: int | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Logs what the coming step is taken with."""
        every: int = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        step = trainer.global_step
        if not trainer.lr_scheduler_configs or (self._logged is not None and step - self._logged < every):
            return
        self._logged = step
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        values = {f"train/learning_rate{f'_{n}' if n else ''}": float(rate) for n, rate in enumerate(rates)}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)
