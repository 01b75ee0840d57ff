"""Sudoku puzzles with exactly one solution, generated in memory: what a board of logits is fitted to."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ils_lightning.data.steps import MadeByStep
from ils_lightning.data.sudoku_rules import GRADES, puzzles
from ils_lightning.errors import Refusal, did_you_mean


class Puzzles(NamedTuple):
    """What a batch holds: the same puzzles at every step.

    `step` `[steps]` are the numbers of the optimiser steps to take. `clues` and `solution` are int64 `[puzzles, 81]`,
    digits 1 .. 9 row by row and 0 for an empty cell; `grade` int64 `[puzzles]` is a place in the list of grades.
    """

    step: Tensor
    clues: Tensor
    solution: Tensor
    grade: Tensor


class Sudoku(MadeByStep):
    """Puzzles of some grades, all with exactly one solution, which a search proves.

    Grades: "easy" has 42 clues, and filling cells that have one candidate left solves it; "medium" has 34, and digits
    with one place left in a row, column or box must be placed too; "hard" has 28, and only trying is enough.

    Args:
        each: puzzles of each grade.
        grades: of easy, medium and hard.
        seed: of the puzzles.

    Example:
        >>> data = Sudoku(each=2, grades=["easy"])
        >>> (data.boards.clues > 0).sum(dim=-1)
        tensor([42, 42])
        >>> data.summary()
        {'data': '2 easy puzzles'}
    """

    def __init__(self, each: int = 8, grades: list[str] | None = None, seed: int = 0) -> None:
        super().__init__()
        self.each, self.grades, self.seed = each, list(GRADES) if grades is None else list(grades), seed
        if each < 1:
            raise Refusal(f"Sudoku: each must be at least 1 puzzle of a grade; given {each}")
        for grade in self.grades:
            if grade not in GRADES:
                raise Refusal(f"Sudoku: grades are {', '.join(GRADES)}; given {grade!r}{did_you_mean(grade, GRADES)}")
        if not self.grades or len(set(self.grades)) < len(self.grades):
            raise Refusal(f"Sudoku: grades must be named, each once; given {self.grades}")

    @property
    def boards(self) -> Puzzles:
        """The puzzles, grade by grade, at step 0."""
        parts = [_generated(grade, self.each, self.seed) for grade in self.grades]
        clues, solution = (torch.cat(part) for part in zip(*parts, strict=True))
        return Puzzles(
            torch.zeros(1, dtype=torch.long), clues, solution, torch.arange(len(parts)).repeat_interleave(self.each)
        )

    def summary(self) -> dict[str, str]:
        """What to print beside every result on these data."""
        return {"data": f"{self.each} {', '.join(self.grades)} puzzles"}

    def batch(self, step: int, steps: int) -> Puzzles:
        return self.boards._replace(step=torch.arange(step, step + steps))


@lru_cache(maxsize=32)
def _generated(grade: str, number: int, seed: int) -> tuple[Tensor, Tensor]:
    """The puzzles of a grade; comparisons ask for the same ones once for every run."""
    return puzzles(GRADES[grade], number, Generator().manual_seed(hash((list(GRADES).index(grade), seed)) % 2**63))
