"""TensorBoard pictures, texts and histograms of what a module shows of itself."""

from textwrap import indent
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from ils_lightning.errors import Refusal
from ils_lightning.modules.protocols import shown


class Figures(Callback):
    """Writes the module's figures, texts and histograms to TensorBoard; silent under other loggers.

    They are written at validation, or at the end of an epoch where there is none: the 1st, 2nd, 4th, 8th and so on, and
    at the end of the fit, so that a long run has a dozen. Tags are `visual/<figure or text>` and `values/<histogram>`:
    they come behind the scalars.

    Args:
        every: validations between two sets of pictures, instead of twice as many each time.
    """

    def __init__(self, every: int | None = None) -> None:
        if every is not None and every < 1:
            raise Refusal(f"Figures: every must be at least 1; given {every}")
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

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self._seen, "written": self._written}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seen, self._written = state_dict["seen"], state_dict["written"]

    def _write_some(self, trainer: Trainer, module: LightningModule) -> None:
        if self._is_due():
            self._write(trainer, module)
        self._seen += 1

    def _is_due(self) -> bool:
        """Whether what was seen before is a multiple of `every`, or what is seen now a power of two."""
        return self._seen & (self._seen + 1) == 0 if self.every is None else self._seen % self.every == 0

    def _write(self, trainer: Trainer, module: LightningModule) -> None:
        """Writes pictures, once a step."""
        if trainer.global_step == self._written:
            return
        self._written = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                for name, figure in shown(module, "figures").items():
                    logger.experiment.add_figure(f"visual/{name}", figure, trainer.global_step)
                for name, text in shown(module, "texts").items():
                    logger.experiment.add_text(f"visual/{name}", indent(text, "    "), trainer.global_step)
                for name, values in shown(module, "histograms").items():
                    logger.experiment.add_histogram(f"values/{name}", values, trainer.global_step)
