"""Gapped straight-through (Fan, Chi, Rudnicky and Ramadge, 2022, 2206.07235).

Paper: Training Discrete Deep Generative Models via Gapped Straight-Through Estimator.

    z ~ pi = softmax(theta);   M = max theta;   m1 = z (M - theta);   m2 = (1 - z) relu(theta - M + gap);
    theta' = theta + m1 - m2, both fixed in backward;   estimate = (1/tau) J(softmax(theta' / tau)) g

Every other logit of theta' lies at least `gap` below the drawn one: what Gumbel noise does, without its variance.
"""

from typing import Literal

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Option, per_row
from ils_lightning.estimators.categorical import jacobian, softmax
from ils_lightning.estimators.sampler import Pullback


class GappedStraightThrough(Pullback):
    """Moves the logits just enough for the draw to be their argmax, then applies softmax's Jacobian there.

    Args:
        gap: smallest distance of the drawn logit to the others; "adaptive" is -log(1 - pi_k) / pi_k of the draw k.
        temperature: tau of the backward pass; draws always follow softmax(logits).

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> loss = GappedStraightThrough(gap=1.0)(logits, lambda z: z[..., 0].sum(-1))
        >>> loss.sum().backward()
    """

    source = "Fan et al. 2022, 2206.07235"
    equation = r"""
        z &\sim \pi \\
        M &= \max_k \theta_k \\
        \theta' &= \theta + z \, (M - \theta) - (1 - z) \max(0, \theta - M + \text{gap}) \\
        q &= \operatorname{softmax}(\theta' / \tau) \\
        \hat\nabla &= \frac{1}{\tau} J_q \, g
    """

    def __init__(self, gap: Option | Literal["adaptive"] = 1.0, temperature: Option = 1.0) -> None:
        super().__init__()
        if isinstance(gap, str):
            if gap != "adaptive":
                raise Refusal(f'GappedStraightThrough: gap must be a number or "adaptive"; given {gap!r}')
            self.gap = gap
        else:
            self.option("gap", gap, strict=False)
        self.option("temperature", temperature)

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        tau = per_row(self.temperature, logits)
        return jacobian(softmax(self._gapped(logits.to(pi.dtype), pi, z) / tau), g) / tau

    def _gapped(self, theta: Tensor, pi: Tensor, z: Tensor) -> Tensor:
        top = theta.amax(dim=-1, keepdim=True)
        others = torch.minimum(theta, top - self._width(pi, z, theta))
        return torch.where(z > 0, top, others)

    def _width(self, pi: Tensor, z: Tensor, theta: Tensor) -> Tensor | float:
        if not isinstance(self.gap, str):
            return per_row(self.gap, theta)
        drawn = (pi * z).sum(dim=-1, keepdim=True).clamp(max=1 - torch.finfo(pi.dtype).eps)
        return -torch.log1p(-drawn) / drawn
