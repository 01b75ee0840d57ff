"""One vector of logits whose loss needs no data: what such modules measure, and how they say it."""

from typing import Any, ClassVar

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from matplotlib.figure import Figure
from torch import Tensor

from ils_lightning import plots
from ils_lightning.data.steps import NoData
from ils_lightning.describe import in_words
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.modules.base import Charts, DiscreteModule, Tracked
from ils_lightning.modules.chunked import ChunkedSteps


class WithoutData(ChunkedSteps, DiscreteModule):
    """Minimises an expected loss that is known in closed form, from draws of a vector of logits.

    Subclasses define `step_loss`, `gradient`, `expected_loss`, and `track`: how far the expected loss is from its
    optimum, as a share of what `tracked` names.

    Args:
        estimator: any; None where the subclass makes its own.
        latents: how many.
        draws: rows of a step, all with the same logits.
        separate: hands each latent to the estimator as a row of its own.
        chunk: optimiser steps taken in one training step of the Trainer; 1 lets Lightning do the optimisation.
        record_every: optimiser steps between points of the recorded curve; 0 records once a chunk.
        optimizer: of the logits.
        lr_scheduler: none, or one.

    Raises:
        ValueError: when a number is out of its range.
    """

    monitor = "val/excess"
    tracked: Tracked
    charts: ClassVar[Charts] = {
        "objective": {
            "E loss above its optimum, as a share": ["train/excess", "val/excess"],
            "loss: of draws in training, expected in validation": ["train/loss", "val/loss"],
        },
        "training": {"norm of the gradient": ["train/gradient_norm"]},
    }

    def __init__(
        self,
        estimator: Any,
        latents: int,
        draws: int,
        separate: bool,
        chunk: int,
        record_every: int,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
    ) -> None:
        super().__init__(estimator, optimizer, lr_scheduler)
        require_at_least(1, type(self).__name__, latents=latents, draws=draws, chunk=chunk)
        require_at_least(0, type(self).__name__, record_every=record_every)
        self.draws, self.separate = draws, separate
        self.prepare_chunks(chunk, record_every)

    def expected_loss(self, logits: Tensor) -> Tensor:
        """Returns E loss `[*rows]` of logits `[*rows, ...]`, in closed form."""
        raise NotImplementedError(f"{type(self).__name__} must define expected_loss(logits)")

    def meet(self, data: Any, stage: str) -> None:
        """Checks that the data are nothing but steps."""
        del stage
        if data is not None and not isinstance(data, NoData):
            raise Refusal(f"{type(self).__name__} sees no data: give --data NoData; given {type(data).__name__}")

    def measures(self) -> dict[str, Tensor]:
        """Returns the tracked quantity."""
        return {"excess": self.track(self.logits.detach())}

    def training_step(self, batch: Tensor) -> Tensor | None:
        """Takes as many optimiser steps as the batch holds, the last batch being cut at the Trainer's max_steps."""
        return self.take_steps(batch)

    def validation_step(self, batch: Tensor) -> None:
        """Measures the expected loss."""
        del batch
        self._measure("val")
        self.log("step", float(self.global_step), on_epoch=True, on_step=False, batch_size=1, sync_dist=True)

    def test_step(self, batch: Tensor) -> None:
        """Measures the expected loss."""
        del batch
        self._measure("test")

    def _measure(self, stage: str) -> None:
        logits = self.logits.detach()
        values = {f"{stage}/loss": self.expected_loss(logits).float(), f"{stage}/excess": self.track(logits)}
        self.log_dict(values, on_epoch=True, on_step=False, batch_size=1, sync_dist=True)

    def figures(self) -> dict[str, Figure]:
        """The curve so far."""
        return {"curve": plots.curve(*self.curve(), in_words(self.estimator), self.tracked.label)}

    def summary(self) -> dict[str, str]:
        """The tracked quantity at the first and last recorded step."""
        _, values = self.curve()
        return {"estimator": in_words(self.estimator), self.tracked.label: f"{values[0]:.4f} -> {values[-1]:.4f}"}
