"""Decoupled straight-through Gumbel-Softmax (Shah, Yan, Mozer and Liu, 2024, 2410.13331).

Paper: Improving Discrete Optimisation via Decoupled Straight-Through Gumbel-Softmax.

    p = theta / tau_f + G, G standard Gumbel;   z = one-hot argmax p, so z ~ softmax(theta / tau_f);
    y = softmax(p tau_f / tau_b);   estimate = (1/tau_b) J(y) df(z),   J(q) v = q (v - q.v)

A hard argmax of (theta + G) / tau_f would not depend on tau_f. The backward's argument keeps the noise and the argmax
of the forward; at tau_f = 1 the whole is straight-through Gumbel-Softmax at tau_b.
"""

from torch import Tensor

from ils_lightning.estimators.base import Option, is_one, per_row
from ils_lightning.estimators.categorical import gumbel, one_hot, softmax
from ils_lightning.estimators.distribution import Categorical, Distribution
from ils_lightning.estimators.sampler import Sampler


class DecoupledStraightThroughGumbelSoftmax(Sampler):
    """Straight-through Gumbel-Softmax with one temperature for the draw and another for the gradient.

    `distribution` is softmax(logits / tau_f), of which models take their KL terms and codes. At the defaults this is
    `StraightThroughGumbelSoftmax(0.5)`.

    Args:
        forward_temperature: tau_f; draws follow softmax(logits / tau_f).
        backward_temperature: tau_b of the backward pass.

    Example:
        >>> import torch
        >>> DecoupledStraightThroughGumbelSoftmax(forward_temperature=0.7).sample(torch.zeros(2, 1, 3)).sum(-1)
        tensor([[1.],
                [1.]])
    """

    source = "Shah et al. 2024, 2410.13331"
    equation = r"""
        p &= \theta / \tau_f + G \\
        z &= \text{one-hot } \argmax p \\
        y &= \operatorname{softmax}(p \, \tau_f / \tau_b) \\
        \hat\nabla &= \frac{1}{\tau_b} J_y \, g
    """

    def __init__(self, forward_temperature: Option = 1.0, backward_temperature: Option = 0.5) -> None:
        super().__init__()
        self.option("forward_temperature", forward_temperature)
        self.option("backward_temperature", backward_temperature)
        self.hard = is_one(self.forward_temperature)

    def distribution(self, logits: Tensor) -> Distribution:
        return Categorical(self._widened(logits) / per_row(self.forward_temperature, logits))

    def sample(self, logits: Tensor) -> Tensor:
        theta = self._widened(logits)
        forward = per_row(self.forward_temperature, logits)
        perturbed = theta / forward + gumbel(theta)
        y = softmax(perturbed * (forward / per_row(self.backward_temperature, logits)))
        z = one_hot(perturbed.argmax(dim=-1), y)
        return (z + (y - y.detach())).to(logits.dtype)

    @staticmethod
    def _widened(logits: Tensor) -> Tensor:
        return logits.float() if logits.element_size() < 4 else logits
