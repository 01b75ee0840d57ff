"""How good the estimator in use is while the model trains: bias, variance, cosine and SNR on a fixed probe batch.

trainer:
  callbacks:
    - class_path: GradientProbe
      init_args:
        every: 200
        rivals: [ReinMax, LeaveOneOut]
"""

import math
import time
from copy import deepcopy
from typing import Any, ClassVar

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torchmetrics import Metric

from ils_lightning.callbacks.rank_seed import random_state, restore
from ils_lightning.describe import create
from ils_lightning.diagnose import replicates
from ils_lightning.diagnose.inputs import Facts, check
from ils_lightning.diagnose.named import name_of
from ils_lightning.diagnose.problems import coupling_in_training, problem_of
from ils_lightning.diagnose.target import closed_form, enumerated, sampled
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators import Estimator, LeaveOneOut, Loss
from ils_lightning.estimators.coupling import CouplingError
from ils_lightning.metrics import GradientCosine, RelativeBias, RelativeVariance, SignalToNoise
from ils_lightning.modules.base import Charts, Problem

_MEMORY = 2**26
_LIMIT = 2**12
_METRICS = {"bias": RelativeBias, "variance": RelativeVariance, "cosine": GradientCosine, "snr": SignalToNoise}


class GradientProbe(Callback):
    """Logs `gradient/<estimator>/<bias | variance | cosine | snr>` every so many optimiser steps, and at the end.

    The probe is the first training batch. The truth is its exact gradient, up to 4 096 states or where the loss knows
    its expectation, else a long mean of leave-one-out estimates. The estimator in use is measured with the state it
    has, rivals as they are made; each rank measures its own rows. Training is not disturbed: random streams, modes,
    buffers and state are put back, so the weights at the end are the same bits as without the callback. The model is
    in evaluation mode while it is measured.
    Where a loss cannot be measured, because it judges rows by each other or is not finite, a note says so, and training
    goes on without measurements.

    Args:
        every: optimiser steps between measurements.
        rivals: other estimators to measure.
        draws: estimates by each.
        rows: rows of the batch to measure on.
        share: of the training time that measurements may take: one that would come too early is left out,
            but for the one at the end.

    Example:
        >>> callback = GradientProbe(every=200, rivals=["ReinMax", "LeaveOneOut"])
    """

    charts: ClassVar[Charts] = {
        "gradient estimates": {
            "bias / length of the gradient": ["gradient/.+/bias"],
            "variance / square of that length": ["gradient/.+/variance"],
            "cosine of the mean estimate": ["gradient/.+/cosine"],
            "signal to noise of one estimate": ["gradient/.+/snr"],
        }
    }

    def __init__(
        self,
        every: int = 100,
        rivals: list[Estimator] | None = None,
        draws: int = 256,
        rows: int = 8,
        share: float = 0.05,
    ) -> None:
        require_at_least(1, "GradientProbe", every=every, rows=rows)
        require_at_least(replicates.FEWEST, "GradientProbe", draws=draws)
        if not 0 < share <= 1:
            raise Refusal(f"GradientProbe: share must be above 0 and at most 1; given {share}")
        self.every, self.draws, self.rows, self.share = every, draws, rows, share
        self.rivals: list[Estimator] = [create(one, Estimator) for one in rivals or []]
        self._batch: Any = None
        self._next, self._last = 0, -1
        self._asked = self._refused = False
        self._began = self._spent = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._next, self._spent, self._began = trainer.global_step, 0.0, time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measures before the step, if it is time for it and time is left."""
        if self._batch is None:
            self._batch = move_data_to_device(batch, torch.device("cpu"))
        if trainer.global_step < self._next or self._refused:
            return
        self._next = trainer.global_step + self.every
        elapsed = time.perf_counter() - self._began
        due = self._spent == 0 or self._spent <= self.share * elapsed
        if trainer.strategy.broadcast(due):  # all ranks measure, or none does
            start = time.perf_counter()
            self._measure(trainer, pl_module)
            self._spent += time.perf_counter() - start

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures what came out: a chart of a short run has two points at least."""
        is_wanted = self._batch is not None and not self._refused and not trainer.interrupted
        if is_wanted and self._last < trainer.global_step:
            self._measure(trainer, pl_module)

    def _measure(self, trainer: Trainer, module: LightningModule) -> None:
        before, values = random_state(), {}
        self._last = trainer.global_step
        try:
            batch = move_data_to_device(self._batch, module.device)
            self._ask(module, batch)
            with problem_of(module, batch, self.rows) as problem, torch.no_grad():
                truth = self._truth(problem)
                # all ranks measure, or none does: the metrics are sums over ranks
                self._refused = not trainer.strategy.reduce_boolean_decision(truth is not None)
                if truth is not None and not self._refused:
                    values = self._values(problem, truth)
        finally:
            restore(before)
        for logger in trainer.loggers if values else []:
            logger.log_metrics(values, step=trainer.global_step)

    def _ask(self, module: LightningModule, batch: Any) -> None:
        """Asks the first time whether the loss of the whole batch judges each row by itself."""
        if self._asked:
            return
        self._asked = True
        try:
            remark = coupling_in_training(module, batch)
        except CouplingError as error:
            self._refuse(error)
        else:
            if remark:
                rank_zero_info(remark)

    def _refuse(self, error: ValueError) -> None:
        self._refused = True
        rank_zero_info(f"note: GradientProbe measures nothing in this run: {error}")

    def _truth(self, problem: Problem) -> Tensor | None:
        """The gradient, or None where the loss cannot be measured."""
        torch.manual_seed(0)
        logits, f, own = problem
        try:
            if own is not None and own.ones > 1:
                raise Refusal(f"it knows draws of one category; {type(own).__name__} draws {own.ones}")
            return None if self._refused else _truth(logits, f, check(logits, f))
        except ValueError as error:
            self._refuse(error)
            return None

    def _values(self, problem: Problem, truth: Tensor) -> dict[str, float]:
        """What to log: what is not finite (all of it, where the gradient is zero) is left out."""
        logits, f, own = problem
        named = {name_of(one): one for one in [*self.rivals, *([own] if own is not None else [])]}
        found = {}
        for name, estimator in named.items():
            metrics = self._metrics(estimator, logits, f, truth)
            found |= {f"gradient/{name}/{key}": metric.compute().item() for key, metric in metrics.items()}
        return {key: value for key, value in found.items() if math.isfinite(value)}

    def _metrics(self, estimator: Estimator, logits: Tensor, f: Loss, truth: Tensor) -> dict[str, Metric]:
        """The metrics of one estimator, whose state is held fixed."""
        torch.manual_seed(0)
        frozen = deepcopy(estimator).to(logits.device).eval()
        plan = replicates.plan(frozen, self.draws, 0, *replicates.cost_of_one(frozen, logits, f), _MEMORY)
        metrics: dict[str, Metric] = {key: kind().to(logits.device) for key, kind in _METRICS.items()}
        for _, estimates in replicates.blocks(frozen, logits, f, plan._replace(settle=0)):
            for metric in metrics.values():
                metric.update(estimates.flatten(0, 1), truth)
        return metrics


def _truth(logits: Tensor, f: Loss, facts: Facts) -> Tensor:
    known = closed_form(logits, f, facts)
    if known is not None:
        found = known
    elif facts.states <= _LIMIT:
        found = enumerated(logits, f, facts, _MEMORY)
    else:
        found = sampled(LeaveOneOut(samples=16), logits, f, facts, _MEMORY, 0.1, 2**16)
    return found.gradient.reshape(logits.shape)
