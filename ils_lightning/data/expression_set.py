"""Expressions in memory, one byte a token, and what a model sees of them in a step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ils_lightning.data.expressions import BLANK, FIRST_OPERATOR, Expression


class Expressions(NamedTuple):
    """A batch of expressions.

    `tokens` is int64 `[batch, tokens]`, filled with blanks; `value` int64 `[batch]`; `parents` int64 `[batch, tokens]`
    holds the place of the operator whose argument a token is, or -1: for measuring, not for learning.
    """

    tokens: Tensor
    value: Tensor
    parents: Tensor


@dataclass(frozen=True)
class ExpressionSet:
    """Expressions of one split, as uint8, int64 and int8 tensors of the shapes of `Expressions`."""

    tokens: Tensor
    value: Tensor
    parents: Tensor

    @classmethod
    def of(cls, expressions: Sequence[Expression], longest: int) -> "ExpressionSet":
        """Lays expressions of at most `longest` tokens out in rows of that length."""
        filled = [(*one.tokens, *[BLANK] * (longest - len(one.tokens))) for one in expressions]
        parents = [(*one.parents, *[-1] * (longest - len(one.tokens))) for one in expressions]
        shape = len(expressions), longest
        return cls(
            torch.tensor(filled, dtype=torch.uint8).reshape(shape),
            torch.tensor([one.value for one in expressions], dtype=torch.long),
            torch.tensor(parents, dtype=torch.int16).reshape(shape),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, index: Tensor | slice, noise: Generator | None = None) -> Expressions:
        """Returns the expressions at `index`; nothing about them is random."""
        del noise
        return Expressions(self.tokens[index].long(), self.value[index], self.parents[index].long())

    def operators(self) -> int:
        """Returns the largest number of operators in one expression."""
        is_operator = (self.tokens >= FIRST_OPERATOR) & (self.tokens < FIRST_OPERATOR + 4)
        return int(is_operator.sum(dim=1).max()) if len(self) else 0
