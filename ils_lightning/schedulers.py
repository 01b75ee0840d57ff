"""A learning rate that stays where it is and falls to zero at the end.

    lr_t = lr                        t <= steps - cooldown
           lr (steps - t) / cooldown   up to t = steps, and 0 from there on

Source: Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations, 2024 (2405.18392),
where it is the linear cooldown.
"""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ils_lightning.errors import Refusal

__all__ = ["Cooldown"]


class Cooldown(LRScheduler):
    """Keeps the learning rate, and takes it to zero in a straight line over the last steps.

    A resumed training takes the options that it is given now, so that one which ended can be given more steps. Resumed
    from a training without a Cooldown it counts from there: both numbers are then of the steps that are added.

    Args:
        optimizer: whose learning rates are set.
        steps: optimiser steps of the whole training.
        cooldown: the last of them, in which the rate falls.
        last_epoch: the step to begin after; -1 for the first.

    Raises:
        ValueError: when `cooldown` is not from 1 to `steps`.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        >>> scheduler, rates = Cooldown(optimizer, steps=4, cooldown=2), []
        >>> for _ in range(5):
        ...     rates.append(scheduler.get_last_lr()[0])
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [1.0, 1.0, 1.0, 0.5, 0.0]
    """

    def __init__(self, optimizer: Optimizer, steps: int, cooldown: int, last_epoch: int = -1) -> None:
        if not 1 <= cooldown <= steps:
            raise Refusal(f"Cooldown: cooldown must be from 1 to steps; given {cooldown} of {steps}")
        self.steps, self.cooldown = steps, cooldown
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps, which does not say when the rate falls."""
        return {name: value for name, value in super().state_dict().items() if name not in ("steps", "cooldown")}

    def get_lr(self) -> list[float | Tensor]:
        """Returns the learning rates after `last_epoch` steps."""
        share = min(max((self.steps - self.last_epoch) / self.cooldown, 0.0), 1.0)
        return [share * rate for rate in self.base_lrs]
