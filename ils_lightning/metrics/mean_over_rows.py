"""The mean of a quantity over all rows seen, over batches and ranks."""

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanOverRows(Metric):
    """Mean of a quantity of each row; subclasses write `measure`, which takes what `update` takes."""

    full_state_update = False
    total: Tensor
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def measure(self, *quantities: Tensor) -> Tensor:
        """Returns the quantity of each row."""
        raise NotImplementedError(f"{type(self).__name__} must define measure")

    def update(self, *quantities: Tensor) -> None:
        """Adds the rows of a batch, given as `measure` takes them."""
        values = self.measure(*quantities)
        self.total += values.double().sum()
        self.rows += values.numel()

    def compute(self) -> Tensor:
        """Returns the mean over rows, in float32."""
        return (self.total / self.rows).float()
