"""How long training took, as a curve over optimiser steps, and how far it is."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor


class Stopwatch(Callback):
    """Notes steps and seconds after every training batch; validation does not count, nor does what comes after a fit.

    On a CPU these are seconds of the process's own work, which do not depend on what else the machine does; on an
    accelerator they are seconds of the clock.

    A resumed fit goes on from the time of its checkpoint.

    Args:
        advance: called with the share of the fit that is newly done; the shares of a whole fit add up to 1.
    """

    def __init__(self, advance: Callable[[float], None]) -> None:
        self.advance, self.done = advance, 0.0
        self._steps, self._seconds = [0], [0.0]
        self._began = self._paused = 0.0
        self._total: float = 1
        self.started = False
        self._clock = time.perf_counter

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts, or goes on."""
        self.started = True
        self._clock = time.process_time if pl_module.device.type == "cpu" else time.perf_counter
        self._began = self._clock() - self._seconds[-1]
        self._total = trainer.max_steps if trainer.max_steps > 0 else trainer.estimated_stepping_batches

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Notes a point."""
        self._steps.append(trainer.global_step)
        self._seconds.append(self._clock() - self._began)
        self.finish(min(trainer.global_step / self._total, 1))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops."""
        self._paused = self._clock()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on."""
        self._began += self._clock() - self._paused

    def finish(self, share: float = 1) -> None:
        """Reports that `share` of the fit is done."""
        self.advance(share - self.done)
        self.done = share

    @property
    def steps(self) -> int:
        """Optimiser steps taken."""
        return self._steps[-1]

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return self._seconds[-1]

    def at(self, steps: Tensor) -> Tensor:
        """Returns the seconds after which `steps` `[points]` were taken, linear between batches."""
        return torch.from_numpy(np.interp(steps.double().numpy(), self._steps, self._seconds))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": torch.tensor(self._steps), "seconds": torch.tensor(self._seconds, dtype=torch.float64)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._steps, self._seconds = state_dict["steps"].tolist(), state_dict["seconds"].tolist()
