"""Losses of values that need not be categories: sums of a distance of each latent's value to a target of its own.

x is `[*any, latents]`, the targets `[latents]`; the answer is that of each latent, `[*any, latents]`.
"""

import torch
from torch import Tensor

from ils_lightning.describe import Described
from ils_lightning.errors import Refusal

__all__ = ["SquaredDistance", "ValueLoss", "Wave"]


class ValueLoss(Described):
    """A loss of a value and its target, latent by latent."""

    _abstract = True

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """Returns the loss of each value."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(x, target)")


class SquaredDistance(ValueLoss):
    """(x - target)^2: quadratic, so that second-order estimators are unbiased."""

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        return (x - target).square()


class Wave(ValueLoss):
    """1 - cos(w (x - target)): bounded, with a curvature of either sign.

    From w = pi on it turns between neighbouring whole numbers, and slopes there say nothing of their difference.

    Args:
        frequency: w, above 0.
    """

    def __init__(self, frequency: float = 1.0) -> None:
        if not 0 < frequency < float("inf"):
            raise Refusal(f"Wave: frequency must be greater than 0 and finite; given {frequency}")
        self.frequency = frequency

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        return 1 - torch.cos(self.frequency * (x - target))
