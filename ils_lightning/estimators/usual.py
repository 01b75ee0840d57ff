"""The usual size of what steps bring: how one step out of all proportion is kept from what has been learnt.

Let x_t be the size of step t (the root mean square of a gradient, or of a loss), u the median of the five before it.

    x_t > 10 u: the step teaches nothing; where such steps go on, the median follows within three of them
    mean size of what was learnt from > 10 max(x_t-3 .. x_t): all that was learnt is forgotten

The first rule keeps out one batch whose loss is thousands of times the others', the second recovers where such a batch
came before any other. Neither sees the draws of the step whose estimate reads the state, so that nothing is said here
of an expectation, and in ordinary training neither is ever used.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.categorical import readable

RATIO = 10.0
REMEMBERED = 5
ORDINARY = 4
"""Steps in a row that must have been small before what was learnt from large ones is forgotten."""


def nothing_seen(parts: int) -> tuple[Tensor, Tensor]:
    """The two buffers that `judge` reads, for sizes of `parts` quantities: recent sizes, and moving sums of all."""
    return torch.zeros(REMEMBERED, parts, dtype=torch.float64), torch.zeros(2, parts, dtype=torch.float64)


def judge(recent: Tensor, level: Tensor, size: Tensor, decay: float, sound: Tensor) -> tuple[Tensor, Tensor]:
    """Decides which parts of the state to keep and which of a step to learn from; brings the buffers up to date.

    Args:
        recent: the last sizes `[5, parts]`, 0 where there was none.
        level: moving sums `[2, parts]` of the sizes learnt from and of their number.
        size: of this step `[parts]`; not finite where there is none, 0 where it says nothing of what is usual.
        decay: weight of the past in the moving sums.
        sound: whether there is anything to learn, that is, whether all of the step's sums are finite.

    Returns:
        Two masks `[parts]`: keep, and take.
    """
    if readable(size) and (found := _usual(recent, level, size, decay, sound)) is not None:
        return found, found
    finite = torch.isfinite(size)
    take = sound & finite & ~(size > RATIO * _median(recent))
    recent.copy_(torch.where(finite & (size > 0), torch.cat([recent[1:], size.unsqueeze(0)]), recent))
    last = recent[-ORDINARY:]
    keep = ~((last > 0).all(dim=0) & (last.amax(dim=0) * RATIO < level[0] / level[1].clamp(min=1e-30)))
    take = take & keep
    new = decay * level + torch.stack([torch.where(take, size, 0), take.to(level)])
    level.copy_(torch.where(take, new, torch.where(keep, level, 0)))
    return keep, take


def _usual(recent: Tensor, level: Tensor, size: Tensor, decay: float, sound: Tensor) -> Tensor | None:
    """The same in fewer passes where the last five sizes are within the ratio, so that all is kept and taken."""
    now = torch.cat([recent[1:], size.unsqueeze(0)])
    low, high = torch.aminmax(now, dim=0)  # low: at most the median of `recent`, and the largest of the last four
    usual = (low > 0) & (high <= RATIO * low) & (level[0] <= RATIO * low * level[1]) & sound
    if not usual.all():
        return None
    recent.copy_(now)
    level.mul_(decay)
    level[0].add_(size)
    level[1].add_(1)
    return usual


def _median(recent: Tensor) -> Tensor:
    """Lower median over steps `[parts]` of the sizes there are; infinite where there are none."""
    known = recent > 0
    middle = (known.sum(dim=0, keepdim=True) - 1).clamp(min=0) // 2
    return torch.where(known, recent, float("inf")).sort(dim=0).values.gather(0, middle).squeeze(0)
