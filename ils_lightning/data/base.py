"""The base of the project's DataModules: it makes bare class names work on the command line, and streams batches."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset


class DiscreteData(LightningDataModule):
    """A LightningDataModule of this suite.

    Data made on the fly define `batch` and are served by `stream` and `single`.
    """

    _abstract = True

    def batch(self, step: int, steps: int) -> Any:
        """Returns what `steps` optimiser steps from `step` see."""
        raise NotImplementedError(f"{type(self).__name__} must define batch(step, steps)")

    def stream(self) -> DataLoader:
        """Endless batches of as many steps as the module takes in one, from the step at which the run stands."""
        return DataLoader(_Stream(self), batch_size=None, generator=torch.Generator())

    def single(self) -> DataLoader:
        """One batch of one step."""
        batches: Any = [self.batch(0, 1)]
        return DataLoader(batches, batch_size=None, generator=torch.Generator())

    def place_in_run(self, shuffle: bool) -> dict[str, Any]:
        """Returns what `Batches` must know of the run: this process's rank, and the epoch of shuffled passes."""
        trainer = self.trainer
        if trainer is None:
            return {}
        place: dict[str, Any] = {"rank": trainer.global_rank, "ranks": trainer.world_size}
        if shuffle:
            place |= {"epoch": trainer.current_epoch, "wanted": lambda: trainer.num_training_batches}
        return place


class _Stream(IterableDataset):
    """Batches from the optimiser step at which the run stands; each of them is a batch where gradients are added up."""

    def __init__(self, data: DiscreteData) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        trainer = self.data.trainer
        step = trainer.global_step * trainer.accumulate_grad_batches if trainer is not None else 0
        steps = getattr(trainer.lightning_module, "chunk", 1) if trainer is not None else 1
        while True:
            yield self.data.batch(step, steps)
            step += steps
