"""Sudoku without draws: descent of the loss of the probabilities themselves.

f(pi) = sum over rows, columns, boxes and digits of (E count - 1)^2 is convex in pi, and 0 at a solution. Where it
is 0 at fractions too, as on hard puzzles, descent may end there. Its gradient is the mean of straight-through's
estimates, which are affine in the draw.
"""

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import Adam

from ils_lightning.estimators import StraightThrough
from ils_lightning.modules.sudoku import SudokuSolver


class RelaxedSudokuSolver(SudokuSolver):
    """Learns boards by descent of f(pi): what straight-through would do if its estimates had no noise.

    Args:
        size: [puzzles]; taken from the data unless given.
        chunk: optimiser steps taken in one training step of the Trainer; 1 lets Lightning do the optimisation.
        record_every: optimiser steps between points of the recorded curve; 0 records once a chunk,
            and where steps are single when the Trainer logs.
        optimizer: Adam with learning rate 0.05 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> RelaxedSudokuSolver(size=[3]).step_loss(torch.tensor(0)).detach()  # all digits alike: all counts are 1
        tensor([0., 0., 0.])
    """

    def __init__(
        self,
        size: list[int] | None = None,
        chunk: int = 100,
        record_every: int = 0,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.05),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(StraightThrough(), size, chunk, record_every, optimizer, lr_scheduler)
        del self.hparams["estimator"]
        self.needs_no_graph = False

    def step_loss(self, x: Tensor) -> Tensor:
        """Returns f(pi) `[puzzles]`; x, the step's number, plays no part."""
        del x
        return self.loss(self.estimator.distribution(self.logits + self.mask).pi)

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns f(pi) and the gradient of its sum to the logits."""
        with torch.enable_grad():
            loss = self.step_loss(x)
            (gradient,) = torch.autograd.grad(loss.sum(), self.logits)
        return loss.detach(), gradient

    def summary(self) -> dict[str, str]:
        """Puzzles solved by grade, and what the others lack."""
        rows = {name: text for name, text in super().summary().items() if name != "estimator"}
        return {"gradient": "of f(pi), without draws"} | rows
