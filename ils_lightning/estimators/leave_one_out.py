"""REINFORCE with a leave-one-out baseline, RLOO (Kool, van Hoof and Welling, 2019; Salimans and Knowles, 2014).

    z_1..z_S ~ pi;   estimate = 1/S sum_i (f_i - mean of the other f_j)(z_i - pi)
                              = 1/(S-1) sum_i (f_i - mean of all f_j)(z_i - pi)

Unbiased for any f, differentiable or not.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Loss, evaluate
from ils_lightning.estimators.categorical import draw, softmax
from ils_lightning.estimators.credit import Advantage, CostsLater, mean_of_group
from ils_lightning.estimators.several import Several


class LeaveOneOut(CostsLater, Several):
    """Draws several times; the other draws of the same row are the baseline.

    Args:
        samples: draws a row, at least 2.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> LeaveOneOut(samples=2)(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
    """

    source = "Kool et al. 2019, openreview r1lgTGL5DE"
    equation = r"""
        z_1, \dots, z_S &\sim \pi \\
        \hat\nabla &= \frac{1}{S} \sum_i \left(f_i - \overline{f}_{-i}\right) (z_i - \pi) \\
        &= \frac{1}{S - 1} \sum_i \left(f_i - \overline{f}\right) (z_i - \pi)
    """

    def __init__(self, samples: int = 4) -> None:
        super().__init__(samples)

    def later(self, logits: Tensor) -> Advantage:
        del logits
        return self.group_advantage

    @staticmethod
    def group_advantage(cost: Tensor, mask: Tensor) -> Tensor:
        """The cost less the mean of the others of the group."""
        mean, number = mean_of_group(cost, mask)
        return (cost - mean) * number / (number - 1).clamp(min=1) + torch.where(number > 1, 0, mean)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = softmax(logits.detach())
        z = draw(pi, self.samples)
        score = z - pi
        loss = evaluate(f, z.to(logits.dtype))
        advantage = (loss - loss.mean(dim=0)).detach()
        estimate = (advantage[..., None, None] * score).sum(dim=0) / (self.samples - 1)
        return loss.mean(dim=0), estimate.to(logits.dtype)
