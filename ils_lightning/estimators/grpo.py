"""Group-relative policy optimisation, GRPO (Shao et al., 2024, 2402.03300), as a gradient estimator.

    z_1..z_S ~ pi;   estimate = 1/S sum_i (f_i - mean f) / (std f + eps) (z_i - pi)

f is a cost, minus the reward; the group is the S draws of one row. std is the sample's, with S - 1, as in the released
programs. Without ratio clipping, which changes nothing at the first step on a batch of draws.
"""

from typing import Any

import torch
from torch import Tensor

from ils_lightning.estimators.base import Loss, evaluate
from ils_lightning.estimators.categorical import draw, softmax
from ils_lightning.estimators.credit import Advantage, CostsLater, mean_of_group
from ils_lightning.estimators.several import Several


class Grpo(CostsLater, Several):
    """Weighs the score of each draw by its cost, centred and scaled by the other draws of its row.

    Biased: dividing by the group's spread, which the draws decide, weighs rows by how little their costs vary, so the
    expectation is no multiple of the gradient. `DrGrpo` leaves the division out, `LeaveOneOut` is unbiased.

    Args:
        samples: draws a row, at least 2: the size of the group.
        eps: added to the standard deviation.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> Grpo(samples=8)(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
    """

    source = "Shao et al. 2024, 2402.03300"
    equation = r"""
        z_1, \dots, z_S &\sim \pi \\
        \hat\nabla &= \frac{1}{S} \sum_i \frac{f_i - \overline{f}}{\operatorname{std} f + \epsilon} \, (z_i - \pi)
    """
    unbiased = False
    exact_for = "none"
    purpose = "to compare with the group"

    eps: Any

    def __init__(self, samples: int = 8, eps: float = 1e-4) -> None:
        super().__init__(samples)
        self.option("eps", eps)

    def later(self, logits: Tensor) -> Advantage:
        del logits
        return self.group_advantage

    def group_advantage(self, cost: Tensor, mask: Tensor) -> Tensor:
        """The cost less the group's mean, by its spread."""
        mean, number = mean_of_group(cost, mask)
        square = torch.where(mask, cost - mean, 0).square().sum(dim=0, keepdim=True)
        return (cost - mean) / ((square / (number - 1).clamp(min=1)).sqrt() + self.eps)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = softmax(logits.detach())
        z = draw(pi, self.samples)
        score = z - pi  # f may write into z
        loss = evaluate(f, z.to(logits.dtype))
        advantage = self.advantage(loss.detach())
        estimate = (advantage[..., None, None] * score).mean(dim=0)
        return loss.mean(dim=0), estimate.to(logits.dtype)

    def advantage(self, loss: Tensor) -> Tensor:
        """What the score of each draw is weighed by, from costs `[samples, *batch]`."""
        centred = loss - loss.mean(dim=0)
        return centred / ((centred.square().sum(dim=0) / (self.samples - 1)).sqrt() + self.eps)
