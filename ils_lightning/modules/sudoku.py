"""Sudoku by gradient: a logit vector for every cell of every board, and nothing else to learn.

    z_c ~ softmax(theta_c) over nine digits, clues given;   minimise E f,   f(z) = sum_u sum_d (n_ud - 1)^2
    with n_ud = sum_{c in u} z_cd, how often row, column or box u holds digit d; f = 0 exactly at a solution
    E f = sum_u sum_d [(E n_ud - 1)^2 + Var n_ud] = f(pi) + 3 sum_c sum_d pi_cd (1 - pi_cd)

for draws that are independent given theta; every cell is in three units. f is quadratic, and its Hessian is one for all
boards: so second-order estimators are unbiased and one that learns the Hessian has the exact gradient in reach.
Straight-through's expectation is the gradient of f(pi), without the last sum. That one is convex, E f is not.

Source: the task of S. Gourevitch et al., 2026, 2601.00781 (`demo/sudoku.py`: Adam, learning rate 0.05, 2 000 steps).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from ils_lightning import plots
from ils_lightning.data.sudoku import Puzzles
from ils_lightning.data.sudoku_rules import CELLS, DIGITS, GRADES, UNITS, candidates
from ils_lightning.describe import in_words
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators import Estimator
from ils_lightning.modules.base import Charts, DiscreteModule, Problem, Tracked, require_one_category
from ils_lightning.modules.chunked import ChunkedSteps
from ils_lightning.modules.meets_data import DataSize
from ils_lightning.modules.sudoku_pictures import solving

_MOMENTS = 5  # boards of one puzzle in a picture


class Counts:
    """f(z) = sum over rows, columns, boxes and digits of (count - 1)^2, for z `[*rows, 81, 9]`.

    Example:
        >>> Counts()(torch.zeros(81, 9))
        tensor(243.)
    """

    def __call__(self, z: Tensor) -> Tensor:
        return self.excess(z).square().sum(dim=(-2, -1))

    def excess(self, z: Tensor) -> Tensor:
        """How often each unit holds each digit, less one: `[*rows, 27, 9]`."""
        return UNITS.to(z) @ z - 1

    def closed_form_gradient(self, z: Tensor) -> Tensor:
        """Returns df/dz, of the shape of z."""
        return 2 * UNITS.to(z).mT @ self.excess(z)

    def expectation(self, pi: Tensor) -> Tensor:
        """Returns E f `[*rows]` over independent cells of probabilities pi `[*rows, 81, 9]`."""
        return self(pi) + 3 * (pi * (1 - pi)).sum(dim=(-2, -1))


def missing(board: Tensor) -> Tensor:
    """Counts the digits that rows, columns and boxes of full boards `[*any, 81]` lack, of 243: 0 when solved."""
    z = functional.one_hot(board - 1, DIGITS).float()
    return (UNITS.to(z) @ z == 0).sum(dim=(-2, -1))


class SudokuSolver(ChunkedSteps, DiscreteModule):
    """Learns a logit vector of every cell by descent of the expected loss of draws; clues are given by masks.

    Boards are rows of one batch, each with its own loss. Reported of the most probable board of each puzzle: how many
    digits its rows, columns and boxes lack (`missing`, of 243), the share of puzzles not solved (`unsolved`), and the
    share of open cells that differ from the solution (`wrong_cells`); `expected_loss` is E f in closed form.

    Args:
        estimator: any estimator; with `Exact` the gradient is that of the closed form.
        size: [puzzles]; taken from the data unless given.
        chunk: optimiser steps taken in one training step of the Trainer; 1 lets Lightning do the optimisation.
        record_every: optimiser steps between points of the recorded curve; 0 records once a chunk,
            and where steps are single when the Trainer logs.
        optimizer: Adam with learning rate 0.05 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> SudokuSolver(estimator=ReinMax(), size=[3]).logits.shape
        torch.Size([3, 81, 9])
    """

    size: tuple[int, ...] = ()
    sized_by = DataSize("size", 1, "boards of [puzzles]", "Sudoku puzzles, such as --data Sudoku")
    monitor = "val/missing"
    tracked: Tracked = Tracked("missing", "digits that rows, columns and boxes lack")
    charts: ClassVar[Charts] = {
        "objective": {
            "digits that rows, columns and boxes lack": ["train/missing", "val/missing"],
            "share of puzzles not solved": ["val/unsolved", *(f"val/unsolved_{grade}" for grade in GRADES)],
            "loss: of draws, and expected": ["train/loss", "train/expected_loss"],
        },
        "training": {"norm of the gradient": ["train/gradient_norm"]},
    }

    def __init__(
        self,
        estimator: Estimator,
        size: list[int] | None = None,
        chunk: int = 100,
        record_every: int = 0,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.05),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(estimator, optimizer, lr_scheduler)
        require_at_least(1, "SudokuSolver", chunk=chunk)
        require_at_least(0, "SudokuSolver", record_every=record_every)
        require_one_category("SudokuSolver", self.estimator)
        self.save_hyperparameters(ignore=["estimator"])
        self.make_hyperparameters_plain(estimator=self.estimator)
        self.loss = Counts()
        self.needs_no_graph = self.estimator.closed_form
        self.prepare_chunks(chunk, record_every)
        self._puzzles: Puzzles | None = None
        self._boards: list[Tensor] = []
        if size:
            self.build(size)

    def make(self, size: tuple[int, ...]) -> None:
        """Makes the logits, all zero, of a number of puzzles."""
        self.logits = nn.Parameter(torch.zeros(*size, CELLS, DIGITS))
        self.register_buffer("mask", torch.zeros_like(self.logits), persistent=False)
        self.estimator.build(CELLS, DIGITS)

    def size_of(self, data: Any) -> Sequence[int] | None:
        boards = getattr(data, "boards", None)
        return (len(boards.clues),) if isinstance(boards, Puzzles) else None

    def meet(self, data: Any, stage: str) -> None:
        """Makes logits for the puzzles, and checks that the estimator is defined for them."""
        super().meet(data, stage)
        self.estimator.check(self.logits)

    def see(self, batch: Puzzles) -> None:
        """Takes the clues of a batch: what they exclude is masked."""
        if len(batch.clues) != len(self.logits):
            raise Refusal(
                f"SudokuSolver learns a board for each puzzle: it has {len(self.logits)} boards; given "
                f"{len(batch.clues)} puzzles"
            )
        self._puzzles = batch
        self.mask = _excluded(batch.clues, self.logits)

    def step_loss(self, x: Tensor) -> Tensor:
        """Returns the loss `[puzzles]` of one optimiser step; x, its number, plays no part."""
        del x
        return self.estimator(self.logits + self.mask, self.loss)

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of one optimiser step and the gradient of its sum to the logits, without autograd."""
        del x
        return self.estimator.estimate(self.logits.detach() + self.mask, self.loss)

    def problem(self, batch: Puzzles) -> Problem:
        """The boards of a batch; of one that is cut to its first rows, the first boards."""
        logits = self.logits[: len(batch.clues)]
        return Problem(logits + _excluded(batch.clues, logits), self.loss)

    def most_probable(self, logits: Tensor) -> Tensor:
        """Returns the most probable boards `[*any, 81]`, digits 1 .. 9, of logits `[*any, 81, 9]`."""
        return self.estimator.distribution(logits + self.mask).mode().argmax(dim=-1) + 1

    def track(self, logits: Tensor) -> Tensor:
        """Returns the digits that boards lack `[points, puzzles]`, of snapshots `[points, puzzles, 81, 9]`."""
        boards = self.most_probable(logits)
        self._boards.append(boards[:, self._shown()].to(torch.int8).cpu())
        return missing(boards).float()

    def _shown(self) -> list[int]:
        """Numbers of the puzzles in pictures: the first of each grade."""
        grade = self._seen().grade.tolist()
        return [grade.index(one) for one in dict.fromkeys(grade)]

    def _seen(self) -> Puzzles:
        if self._puzzles is None:
            raise Refusal("SudokuSolver has seen no puzzles yet")
        return self._puzzles

    def measures(self) -> dict[str, Tensor]:
        """Returns the digits that most probable boards lack, and the expected loss, both means over puzzles."""
        lacking = missing(self.most_probable(self.logits.detach())).float().mean()
        return {"missing": lacking, "expected_loss": self.expected_loss().mean()}

    def training_step(self, batch: Puzzles) -> Tensor | None:
        """Takes as many optimiser steps as the batch holds, the last batch being cut at the Trainer's max_steps."""
        self.see(batch)
        return self.take_steps(batch.step)

    def expected_loss(self) -> Tensor:
        """Returns E f `[puzzles]`, in closed form, for draws of the estimator's."""
        return self.loss.expectation(self.estimator.distribution(self.logits.detach() + self.mask).pi)

    def validation_step(self, batch: Puzzles) -> None:
        """Measures the most probable boards."""
        self._measure(batch, "val")
        self.log("step", float(self.global_step), on_epoch=True, on_step=False, batch_size=1, sync_dist=True)

    def test_step(self, batch: Puzzles) -> None:
        """Measures the most probable boards."""
        self._measure(batch, "test")

    def predict_step(self, batch: Puzzles) -> dict[str, Tensor]:
        """Returns the most probable boards `[puzzles, 81]` and how many digits each lacks `[puzzles]`."""
        self.see(batch)
        boards = self.most_probable(self.logits.detach())
        return {"board": boards, "missing": missing(boards)}

    def _measure(self, batch: Puzzles, stage: str) -> None:
        self.see(batch)
        boards = self.most_probable(self.logits.detach())
        open_ = batch.clues == 0
        wrong = (open_ & (boards != batch.solution)).sum(dim=-1) / open_.sum(dim=-1)
        found = {"missing": missing(boards).float(), "wrong_cells": wrong, "expected_loss": self.expected_loss()}
        found["unsolved"] = (found["missing"] > 0).float()
        values = {name: value.mean() for name, value in found.items()}
        names, grades = self._grades(), batch.grade.unique().tolist()
        if len(grades) > 1:
            values |= {f"unsolved_{names[one]}": found["unsolved"][batch.grade == one].mean() for one in grades}
        self.log_dict(
            {f"{stage}/{name}": value for name, value in values.items()},
            on_epoch=True,
            on_step=False,
            batch_size=1,
            sync_dist=True,
        )

    def _grades(self) -> list[str]:
        return getattr(self.datamodule, "grades", None) or list(GRADES)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Saves the boards of pictures beside the curve."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["boards"] = torch.cat(self._boards) if self._boards else torch.zeros(0, 0, CELLS, dtype=torch.int8)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Restores them."""
        super().on_load_checkpoint(checkpoint)
        if len(checkpoint.get("boards", ())):
            self._boards = [checkpoint["boards"]]

    def figures(self) -> dict[str, Figure]:
        """The first puzzle of each grade while it was solved, and the curve so far."""
        steps, values = self.curve()
        if not len(steps):
            return {}
        clues, names = self._seen().clues[self._shown()].cpu(), self._grades()
        chosen = _moments(len(steps))
        boards = torch.cat(self._boards)[chosen].long().transpose(0, 1)  # [puzzles, moments, 81]
        rows = [names[int(grade)] for grade in self._seen().grade[self._shown()]]
        moments = [f"step {int(step)}" for step in steps[chosen]]
        return {
            "solving": solving(clues, boards, rows, moments),
            "curve": plots.curve(steps, values, type(self.estimator).__name__, self.tracked.label),
        }

    def histograms(self) -> dict[str, Tensor]:
        """Probabilities of the most probable digits of open cells."""
        pi = self.estimator.distribution(self.logits.detach() + self.mask).pi
        return {"probabilities": pi.amax(dim=-1)[(self.mask == 0).sum(dim=-1) > 1]}

    def summary(self) -> dict[str, str]:
        """Puzzles solved by grade, and what the others lack."""
        puzzles, boards = self._seen(), self.most_probable(self.logits.detach())
        rows = {"estimator": in_words(self.estimator)}
        for one, name in enumerate(self._grades()):
            lacking = missing(boards[puzzles.grade == one])
            count = f"{int((lacking == 0).sum())} of {len(lacking)} solved"
            rows[f"{name} puzzles"] = f"{count}; digits missing: {lacking.float().mean():.1f}"
        return rows


def _excluded(clues: Tensor, like: Tensor) -> Tensor:
    """0 for what cells of boards `[puzzles, 81]` may hold, else -inf: `[puzzles, 81, 9]`."""
    return torch.zeros_like(like).masked_fill(~candidates(clues), float("-inf"))


def _moments(points: int) -> list[int]:
    """Which of recorded points are shown: the first, the last, and some between, the early ones closer."""
    last = points - 1
    return sorted({round(last * (number / (_MOMENTS - 1)) ** 2) for number in range(_MOMENTS)})
