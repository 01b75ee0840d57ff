"""TensorBoard pictures and histograms of what a module shows of itself."""

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from ils_lightning.modules.base import DiscreteModule


class Figures(Callback):
    """Writes the module's figures and histograms to TensorBoard at validation; silent under other loggers.

    Without validation, the end of an epoch takes its place.

    Args:
        every: validations between two sets of pictures.
    """

    def __init__(self, every: int = 10) -> None:
        if every < 1:
            raise ValueError(f"Figures: every must be at least 1; given {every}")
        self.every = every
        self._seen = 0
        self._written = -1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes pictures, except while the Trainer checks that validation works."""
        if not trainer.sanity_checking:
            self._write_some(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes pictures where there is no validation."""
        if not trainer.enable_validation:
            self._write_some(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the pictures of the trained model."""
        self._write(trainer, pl_module)

    def _write_some(self, trainer: Trainer, module: LightningModule) -> None:
        if self._seen % self.every == 0:
            self._write(trainer, module)
        self._seen += 1

    def _write(self, trainer: Trainer, module: LightningModule) -> None:
        """Writes pictures, once a step."""
        if not isinstance(module, DiscreteModule) or trainer.global_step == self._written:
            return
        self._written = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                for tag, figure in module.figures().items():
                    logger.experiment.add_figure(tag, figure, trainer.global_step)
                for tag, values in module.histograms().items():
                    logger.experiment.add_histogram(tag, values, trainer.global_step)
