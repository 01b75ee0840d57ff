"""Straight-through Gumbel-Softmax (Jang, Gu and Poole, 2016, 1611.01144).

y = softmax((theta + G) / tau);   z = one-hot argmax(theta + G);   estimate = (1/tau) J(y) df(z)
"""

from torch import Tensor

from ils_lightning.estimators.base import Option, per_row
from ils_lightning.estimators.categorical import gumbel, one_hot, softmax
from ils_lightning.estimators.sampler import Sampler


class StraightThroughGumbelSoftmax(Sampler):
    """Exact draw forward, Gumbel-Softmax's Jacobian backward.

    Args:
        temperature: tau of the backward pass.

    Example:
        >>> import torch
        >>> StraightThroughGumbelSoftmax().sample(torch.zeros(2, 1, 3)).sum(-1)
        tensor([[1.],
                [1.]])
    """

    source = "Jang et al. 2016, 1611.01144"
    equation = r"""
        z &= \text{one-hot } \argmax (\theta + G) \\
        y &= \operatorname{softmax}((\theta + G) / \tau) \\
        \hat\nabla &= \frac{1}{\tau} J_y \, g
    """

    def __init__(self, temperature: Option = 0.5) -> None:
        super().__init__()
        self.option("temperature", temperature)

    def sample(self, logits: Tensor) -> Tensor:
        theta = logits.float() if logits.element_size() < 4 else logits
        perturbed = theta + gumbel(theta)
        y = softmax(perturbed / per_row(self.temperature, logits))
        z = one_hot(perturbed.argmax(dim=-1), y)
        return (z + (y - y.detach())).to(logits.dtype)
