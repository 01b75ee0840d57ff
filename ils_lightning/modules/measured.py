"""Models that train in epochs: what a step logs, the metrics of validation and test, and the curve."""

from typing import Any, ClassVar

from torch import Tensor, nn

from ils_lightning.modules.base import DiscreteModule
from ils_lightning.modules.epoch_curve import EpochCurve


class Measured(EpochCurve, DiscreteModule):
    """The base of modules that are measured batch by batch. Subclasses make `metrics` and write `measure`.

    A subclass calls `prepare_curve` when it is made, and `log_training` in its training step.

    Attributes:
        metrics: torchmetrics by name, alike for validation and test; logged as `val/NAME` and `test/NAME`.
    """

    _abstract = True

    metrics: nn.ModuleDict
    in_bar: ClassVar[tuple[str, ...]] = ()
    """Names of metrics that the progress bar shows beside the monitored one."""

    def log_training(self, values: Tensor, **parts: Tensor) -> None:
        """Counts the tracked quantity of a training batch's rows, `[batch]`, for the curve.

        When the Trainer logs, and only then, for a log costs as much as a small step, its mean is logged with `parts`
        and what the estimator says of itself.
        """
        self.count(values)
        every: int = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if not every or (self.global_step + 1) % every:
            return
        diagnostics = self.estimator.diagnostics() if self.estimator is not None else {}
        found = {"loss": values.detach().mean(), **parts, **diagnostics}
        self.log_dict({f"train/{name}": one.float() for name, one in found.items()}, batch_size=1)
        self.log("loss", found["loss"], prog_bar=True, logger=False, batch_size=1)

    def measure(self, batch: Any) -> None:
        """Updates the metrics with a batch of validation or test data."""
        raise NotImplementedError(f"{type(self).__name__} must define measure(batch)")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Measures a batch."""
        del batch_idx
        self.measure(batch)

    def test_step(self, batch: Any) -> None:
        """Measures a batch."""
        self.measure(batch)

    def on_validation_epoch_end(self) -> None:
        """Logs what the validation set measured."""
        self.log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Logs what the test set measured."""
        self.log_metrics("test")

    def log_metrics(self, stage: str) -> None:
        """Logs the metrics as they are over all batches and ranks, and forgets them."""
        metrics: Any = self.metrics
        for name, metric in metrics.items():
            self.log_metric(stage, name, metric.compute())
            metric.reset()

    def log_metric(self, stage: str, name: str, value: Tensor) -> None:
        """Logs one of them; the monitored one, and those of `in_bar`, are shown while the model trains."""
        shown = f"{stage}/{name}" == self.monitor or name in self.in_bar
        self.log(f"{stage}/{name}", value, sync_dist=True, prog_bar=shown)

    def summary_of_data(self) -> dict[str, str]:
        """What the data say of themselves, for `summary`."""
        return self.datamodule.summary() if hasattr(self.datamodule, "summary") else {}
