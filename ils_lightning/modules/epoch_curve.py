"""The curve of models that train in epochs: the mean of the tracked quantity over each, read once an epoch."""

import torch
from lightning import LightningModule
from torch import Tensor

from ils_lightning.estimators.distributed import of_all_ranks, rank_of_ranks, sum_over_ranks
from ils_lightning.modules.saved_curve import saved_curve


class EpochCurve(LightningModule):
    """Mixin that keeps a quantity of the rows trained on, on the device, and records its mean when an epoch ends.

    Checkpoints hold the curve and the sums of an unfinished epoch, those of every rank.
    """

    _curve: tuple[Tensor, Tensor]
    _sums: list[Tensor]
    _rows: int

    def prepare_curve(self) -> None:
        """Starts an empty curve."""
        self._curve = torch.zeros(0, dtype=torch.long), torch.zeros(0, 1)
        self._sums, self._rows = [], 0

    def count(self, values: Tensor) -> None:
        """Adds the tracked quantity of a training batch's rows, `[batch]`; the host does not wait for it."""
        self._sums.append(values.detach().float().sum())
        self._rows += len(values)

    def on_train_epoch_end(self) -> None:
        """Records the epoch's mean, over all ranks."""
        if self._sums:
            total = torch.stack(self._sums).sum()
            total, rows = sum_over_ranks(torch.stack([total, torch.full_like(total, self._rows)])).tolist()
            steps, values = self._curve
            step, mean = torch.tensor([self.global_step]), torch.tensor([[total / rows]])
            self._curve = torch.cat([steps, step]), torch.cat([values, mean])
        self._sums, self._rows = [], 0

    def curve(self) -> tuple[Tensor, Tensor]:
        """Returns the steps at which epochs ended `[points]` and the tracked quantity's means `[points, 1]`."""
        return self._curve

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Saves the curve, so that a resumed run continues it."""
        super().on_save_checkpoint(checkpoint)
        steps, values = self._curve
        own = [float(value) for value in self._sums], self._rows
        sums, rows = zip(*of_all_ranks(own), strict=True)
        checkpoint["curve"] = {"steps": steps, "values": values, "sums": list(sums), "rows": list(rows)}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Restores the curve."""
        super().on_load_checkpoint(checkpoint)
        curve = checkpoint.get("curve", {})
        if not isinstance(curve, dict) or "sums" in curve:  # else it is another kind of model's; the weights will say
            self._curve = saved_curve(curve)
            sums, self._rows = _own(curve["sums"], curve["rows"])
            self._sums = [torch.tensor(value) for value in sums]


def _own(sums: list, rows: list | int) -> tuple[list[float], int]:
    """This rank's sums and rows of an unfinished epoch; the first has all of them where other ranks saved them."""
    if isinstance(rows, int):  # version 0.1.0 saved those of the first rank
        sums, rows = [sums], [rows]
    rank, ranks = rank_of_ranks()
    if len(rows) == ranks:
        return sums[rank], rows[rank]
    return ([one for part in sums for one in part], sum(rows)) if rank == 0 else ([], 0)
