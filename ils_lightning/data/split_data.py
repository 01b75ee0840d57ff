"""The base of the DataModules whose rows are in memory: loaders by slicing, and what happens without validation."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ils_lightning.data.base import DiscreteData
from ils_lightning.data.batches import Batches, Rows
from ils_lightning.errors import Refusal


class SplitData(DiscreteData):
    """Training, validation and test rows in memory; validation may be empty. Subclasses define `splits`.

    Args:
        batch_size: rows a step and rank.
        seed: of the order of training rows and of all draws.

    Attributes:
        splits: the three `Rows`, as a named tuple train, val, test; made once, when they are first asked for.
        called: what a row is, for messages.
        draws: whether rows are handed noise to draw with, anew for each training batch.
    """

    _abstract = True

    splits: Any
    called: ClassVar[str] = "rows"
    draws: bool = False

    def __init__(self, batch_size: int, seed: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise Refusal(f"{type(self).__name__}: batch_size must be at least 1; given {batch_size}")
        self.batch_size, self.seed = batch_size, seed

    def setup(self, stage: str) -> None:
        """Makes the splits; where nothing is held out, the Trainer is told that there is no validation.

        Raises:
            ValueError: when validation is asked for and there is nothing for it.
        """
        if len(self.splits.val):
            return
        if stage == "validate":
            raise Refusal(
                f"{type(self).__name__} holds out no {self.called} for validation: give --data.validation, or test"
            )
        if self.trainer is not None:
            self.trainer.limit_val_batches = 0

    def train_dataloader(self) -> Batches:
        """Training rows in a new order each epoch, without the last incomplete batch."""
        return self._batches(self.splits.train, shuffle=True)

    def val_dataloader(self) -> Batches | list:
        """Validation rows in order; nothing where none are held out."""
        return self._batches(self.splits.val) if len(self.splits.val) else []

    def test_dataloader(self) -> Batches:
        """Test rows in order."""
        return self._batches(self.splits.test)

    def predict_dataloader(self) -> Batches:
        """Test rows in order."""
        return self.test_dataloader()

    def in_order(self, split: str) -> Batches | list:
        """All rows of "train", "val" or "test", as they are stored; a process with ranks shows all of them too."""
        rows: Rows = getattr(self.splits, split)
        return Batches(rows, self.batch_size, seed=self.seed, draw=self.draws) if len(rows) else []

    def origin(self, split: str) -> tuple[Tensor, list[str]]:
        """Returns where the rows of a split come from.

        Returns:
            Their places `[rows]`, in the split, or in what was split, and the names of their files, if they have any.
        """
        return torch.arange(len(getattr(self.splits, split))), []

    def _batches(self, rows: Rows, shuffle: bool = False) -> Batches:
        options = {"shuffle": shuffle, "draw": self.draws, **self.place_in_run(shuffle)}
        return Batches(rows, self.batch_size, seed=self.seed, **options)
