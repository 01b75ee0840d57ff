"""Straight-through estimator (Bengio, Leonard and Courville, 2013, 1308.3432).

    z ~ pi = softmax(theta);   estimate = (1/tau) J(softmax(theta / tau)) g,   J(q) v = q (v - q.v)

Exact in expectation for f linear in z at tau = 1.
"""

from typing import Literal

from torch import Tensor

from ils_lightning.estimators.base import Option, is_one, per_row
from ils_lightning.estimators.categorical import jacobian, softmax
from ils_lightning.estimators.sampler import Pullback


class StraightThrough(Pullback):
    """Passes df/dz at the draw through softmax's Jacobian.

    Args:
        temperature: tau of the backward pass; draws always follow softmax(logits).

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> loss = StraightThrough()(logits, lambda z: z[..., 0].sum(-1))
        >>> loss.sum().backward()
        >>> logits.grad[0, 0]
        tensor([ 0.2222, -0.1111, -0.1111])
    """

    source = "Bengio, Leonard and Courville 2013, 1308.3432"
    equation = r"""
        z &\sim \pi \\
        q &= \operatorname{softmax}(\theta / \tau) \\
        \hat\nabla &= \frac{1}{\tau} J_q \, g
    """

    def __init__(self, temperature: Option = 1.0) -> None:
        super().__init__()
        self.option("temperature", temperature)

    @property
    def exact_for(self) -> Literal["none", "linear", "quadratic", "all"]:
        return "linear" if is_one(self.temperature) else "none"

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        if is_one(self.temperature):
            return jacobian(pi, g)
        tau = per_row(self.temperature, logits)
        return jacobian(softmax(logits / tau), g) / tau

    def rearranged(self, logits: Tensor, pi: Tensor, index: Tensor, g: Tensor) -> Tensor:
        return self.pullback(logits, pi, index, g)  # the draw does not occur in the formula
