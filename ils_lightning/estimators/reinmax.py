"""ReinMax (Liu, Dong, Liu, Yu and Gao, 2023, 2304.08612); at tau = 1 it is ZGR (Shekhovtsov, ICML 2023).

    z ~ pi = softmax(theta);   estimate = 2 J((softmax(theta / tau) + z) / 2) g - 1/2 J(pi) g,   J(q) v = q (v - q.v)

Exact in expectation for f quadratic in z at tau = 1 (Heun's second-order rule).
"""

from typing import Literal

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option, is_one, per_row
from ils_lightning.estimators.categorical import beside, difference, jacobian, one_hot, plain, softmax
from ils_lightning.estimators.sampler import Pullback


class ReinMax(Pullback):
    """Second-order straight-through.

    Args:
        temperature: tau of the backward pass; draws always follow softmax(logits). Papers use 1.1 to 1.5.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> loss = ReinMax(temperature=1.3)(logits, lambda z: z[..., 0].sum(-1))
        >>> loss.sum().backward()
    """

    source = "Liu et al. 2023, 2304.08612"
    equation = r"""
        z &\sim \pi \\
        q &= \tfrac{1}{2} \left(\operatorname{softmax}(\theta / \tau) + z\right) \\
        \hat\nabla &= 2 J_q \, g - \tfrac{1}{2} J_\pi \, g
    """

    def __init__(self, temperature: Option = 1.0) -> None:
        super().__init__()
        self.option("temperature", temperature)

    @property
    def exact_for(self) -> Literal["none", "linear", "quadratic", "all"]:
        return "quadratic" if is_one(self.temperature) else "none"

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        soft = pi if is_one(self.temperature) else softmax(logits / per_row(self.temperature, logits))
        return 2 * jacobian((soft + z) / 2, g) - jacobian(pi, g) / 2

    def rearranged(self, logits: Tensor, pi: Tensor, index: Tensor, g: Tensor) -> Tensor:
        """1/2 (h - z sum h) with h = pi (g - g[z]), at tau = 1."""
        if not is_one(self.temperature):
            return ReinMax.pullback(self, logits, pi, one_hot(index, pi), beside(pi, g))  # not that of a subclass
        k = index.unsqueeze(-1)
        h = difference(pi, g, g.gather(-1, k)).mul_(pi)
        total = h.sum(dim=-1, keepdim=True).mul_(-0.5)
        return torch.mul(h, 0.5, out=plain(h)).scatter_add_(-1, k, total)
