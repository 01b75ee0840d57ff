"""How often f was evaluated in a training, whose estimator may draw more often as it goes on."""

from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor

from ils_lightning.estimators import Estimator
from ils_lightning.modules import HasProblem, Problem
from ils_lightning.modules.protocols import has_evaluations


class CountedOptions(Callback):
    """Notes from which step on the model's estimators draw how often: their `counts`, which a schedule may change.

    A resumed fit goes on from the notes of its checkpoint.
    """

    def __init__(self) -> None:
        self._notes: list[tuple[int, list[int]]] = []
        self._places: list[tuple[Estimator, str]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks for what may change."""
        self._places = _places(pl_module)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Notes what has changed; a schedule that comes before this callback has been at work."""
        present = [getattr(estimator, name) for estimator, name in self._places]
        if not self._notes or present != self._notes[-1][1]:
            self._notes.append((trainer.global_step, present))

    def spent(self, model: LightningModule, data: LightningDataModule, steps: int) -> "Spent":
        """Returns what was spent in a fit of so many optimiser steps, and leaves the options as they were."""
        found, places = [], _places(model)  # a fit that was done already has not looked for them
        for _, counts in self._notes or [(0, [])]:
            for (estimator, name), count in zip(places, counts, strict=False):
                setattr(estimator, name, count)
            found.append(evaluations(model, data))
        starts = [step for step, _ in self._notes or [(0, [])]]
        return Spent(starts, found, steps)

    def state_dict(self) -> dict[str, Any]:
        return {"notes": [[step, list(counts)] for step, counts in self._notes]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._notes = [(step, counts) for step, counts in state_dict["notes"]]


def _places(model: LightningModule) -> list[tuple[Estimator, str]]:
    """The estimators of a model, each with the name of a count."""
    estimators = [module for module in model.modules() if isinstance(module, Estimator)]
    return [(estimator, name) for estimator in estimators for name in estimator.counts]


class Spent:
    """Evaluations of f over a training.

    Args:
        starts: the first step of each stretch of equal steps.
        costs: evaluations in each step of it.
        steps: at which the last stretch ends.

    Example:
        >>> spent = Spent([0, 10], [100.0, 400.0], steps=20)
        >>> spent.a_step, spent.at(torch.tensor([5, 15])).tolist()
        (250.0, [500.0, 3000.0])
    """

    def __init__(self, starts: list[int], costs: list[float], steps: int) -> None:
        # a fit that goes on from a checkpoint without notes, of an earlier version, began as it goes on
        self._steps = np.array([0, *starts[1:], max(steps, starts[-1])], dtype=float)
        self._total = np.concatenate([[0.0], np.cumsum(np.diff(self._steps) * costs)])
        self.a_step = float(self._total[-1] / steps) if len(costs) > 1 else costs[0]

    def at(self, steps: Tensor) -> Tensor:
        """Returns the evaluations after each of `steps` `[points]`."""
        return torch.from_numpy(np.interp(steps.double().numpy(), self._steps, self._total))


def evaluations(model: Any, data: LightningDataModule) -> float:
    """Rows of f evaluated in one optimiser step, by the first batch, or what the module counts in their place.

    NaN where it does not count and poses no problem.
    """
    counts, poses = has_evaluations(model), isinstance(model, HasProblem)
    if not counts and not poses:
        return float("nan")
    batch = model.transfer_batch_to_device(next(iter(data.train_dataloader())), model.device, 0)
    if counts:
        return float(model.evaluations(batch))
    try:
        logits, f, used = Problem(*model.problem(batch))
    except NotImplementedError:
        return float("nan")
    estimator: Any = used or getattr(model, "estimator", None)
    if estimator is None:
        return float("nan")
    return float(estimator.evaluations_of(f, *logits.shape[-2:]) * logits.shape[:-2].numel())
