"""Data made on the fly, and nothing but steps, for models whose loss needs no data."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ils_lightning.data.base import DiscreteData


class MadeByStep(DiscreteData):
    """Data whose batches follow from the number of the optimiser step alone; subclasses define `batch`."""

    _abstract = True

    def train_dataloader(self) -> DataLoader:
        """Endless batches of as many steps as the module takes in one."""
        return self.stream()

    def val_dataloader(self) -> DataLoader:
        """One batch."""
        return self.single()

    def test_dataloader(self) -> DataLoader:
        """One batch."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader:
        """One batch."""
        return self.val_dataloader()


class NoData(MadeByStep):
    """Batches that hold the numbers of the optimiser steps to take, `[steps]`.

    Example:
        >>> NoData().batch(step=10, steps=3)
        tensor([10, 11, 12])
    """

    def batch(self, step: int, steps: int) -> Tensor:
        return torch.arange(step, step + steps)
