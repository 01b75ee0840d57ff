"""ILS with a curvature that is a multiple of the identity: one number per latent (this project).

estimate = M_s (g - eta z),   d = z - pi
eta = S / P,   S = moving sum of g.d,   P = moving sum of 1 - |pi|^2,   over rows, steps and ranks
"""

import torch
from torch import Tensor

from ils_lightning.estimators.family import SMALLEST_TRACE, Curved


class ILSIsotropic(Curved):
    """Removes from the estimate what one pooled number explains of the draw's own noise.

    With 2 categories a symmetric curvature acts through one number only, so this is `ILSNewton` with ridge 0. With more
    it is right where all categories are curved alike, and otherwise off by the share that base s leaves. Each layer
    needs its own instance.

    Args:
        decay: weight of the past in the moving sums, in [0, 1).
        base: s of the step's base pi + s d: 0 has the least variance, 1 the least bias; above 1 both grow.

    Example:
        >>> import torch
        >>> logits = torch.zeros(64, 1, 2, requires_grad=True)
        >>> loss = ILSIsotropic()(logits, lambda z: z[..., 0].square().sum(-1))
        >>> loss.sum().backward()
    """

    equation = r"""
        d &= z - \pi \\
        M_s v &= \frac{J_\pi v + s^2 d \, (d \cdot v)}{1 + s^2} \\
        \hat\nabla &= M_s (g - \eta z) \\
        \eta &= \frac{\langle g \cdot d \rangle}{\langle 1 - \lVert\pi\rVert^2 \rangle}
    """

    statistics = ("S", "P")
    S: Tensor
    P: Tensor

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        return ((latents, 1),) * 2

    def curvature(self) -> Tensor:
        return torch.where(self.P < SMALLEST_TRACE, 0, self.S / self.P.clamp(min=SMALLEST_TRACE))

    def observe(self, pi: Tensor, z: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        d = z - pi
        return (g * d).sum(dim=-1, keepdim=True).sum(dim=0), (pi * (1 - pi)).sum(dim=-1, keepdim=True).sum(dim=0)
