"""GRPO done right (Liu et al., 2025, 2503.20783): without the division by the group's standard deviation.

    z_1..z_S ~ pi;   estimate = 1/S sum_i (f_i - mean f) (z_i - pi)

Its expectation is (S - 1) / S times the gradient: `LeaveOneOut` divides by S - 1 instead and is unbiased.
"""

from torch import Tensor

from ils_lightning.estimators.credit import mean_of_group
from ils_lightning.estimators.grpo import Grpo


class DrGrpo(Grpo):
    """Weighs the score of each draw by its cost, centred by the mean over the draws of its row.

    Args:
        samples: draws a row, at least 2: the size of the group.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> DrGrpo(samples=8)(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
    """

    source = "Liu et al. 2025, 2503.20783"
    equation = r"""
        z_1, \dots, z_S &\sim \pi \\
        \hat\nabla &= \frac{1}{S} \sum_i \left(f_i - \overline{f}\right) (z_i - \pi)
    """

    def __init__(self, samples: int = 8) -> None:
        super().__init__(samples)
        del self.ranges["eps"]

    def group_advantage(self, cost: Tensor, mask: Tensor) -> Tensor:
        """The cost less the group's mean."""
        return cost - mean_of_group(cost, mask)[0]

    def advantage(self, loss: Tensor) -> Tensor:
        return loss - loss.mean(dim=0)
