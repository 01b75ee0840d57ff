"""Random true distributions, and the stream a model sees: the distribution itself, or single draws.

The stream is a function of (seed, rank, step) alone: it does not depend on the model's random numbers, on how many
steps come in one batch, or on where a run was interrupted.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ils_lightning.data.steps import MadeByStep
from ils_lightning.errors import require_at_least
from ils_lightning.estimators.categorical import draw

_BLOCK = 256  # steps drawn at once


class Targets(NamedTuple):
    """What a batch holds: `x` `[steps, *rows, categories]` for the loss, `p` `[*rows, categories]` for the metrics."""

    x: Tensor
    p: Tensor


class TrueDistribution(MadeByStep):
    """Random categorical distributions (uniform entries, normalised); every step shows the distribution itself.

    Rows are `[trials]`, or `[settings, trials]` when several settings of an estimator share a run.

    Args:
        categories: size of the categorical variable.
        trials: independent distributions.
        settings: settings sharing the run; 0 for none.
        paired: all settings get the same distributions, instead of fresh ones.
        seed: of the distributions, and of the draws where there are any.
    """

    def __init__(
        self, categories: int = 5, trials: int = 5, settings: int = 0, paired: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        require_at_least(1, type(self).__name__, categories=categories, trials=trials)
        require_at_least(0, type(self).__name__, settings=settings)
        self.seed = seed
        rows = (trials,) if not settings else (1 if paired else settings, trials)
        u = torch.rand(*rows, categories, generator=torch.Generator().manual_seed(seed))
        self.p = u / u.sum(dim=-1, keepdim=True)
        if settings:
            self.p = self.p.expand(settings, -1, -1)

    def targets(self, step: int, steps: int) -> Tensor:
        """Returns x of `steps` optimiser steps from `step`: `[steps, *rows, categories]`."""
        del step
        return self.p.expand(steps, *self.p.shape)

    def batch(self, step: int, steps: int) -> Targets:
        """Returns what `steps` optimiser steps from `step` see."""
        return Targets(self.targets(step, steps), self.p)


class SingleDraws(TrueDistribution):
    """Random categorical distributions of which every step shows one one-hot draw a row."""

    _cached: tuple = (None, None)

    def targets(self, step: int, steps: int) -> Tensor:
        """Returns one-hot draws for `steps` optimiser steps from `step`: `[steps, *rows, categories]`."""
        first, last = step // _BLOCK, (step + steps - 1) // _BLOCK
        block = torch.cat([self._block(number) for number in range(first, last + 1)])
        start = step - first * _BLOCK
        return block[start : start + steps]

    def _block(self, number: int) -> Tensor:
        rank = self.trainer.global_rank if self.trainer is not None else 0
        if self._cached[0] != (rank, number):
            self._cached = (rank, number), self._draw_block(rank, number)
        return self._cached[1]

    def _draw_block(self, rank: int, number: int) -> Tensor:
        seed = hash((self.seed, rank, number)) % 2**63
        return draw(self.p, _BLOCK, torch.Generator().manual_seed(seed))
