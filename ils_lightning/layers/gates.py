"""Routers that draw nothing: the likeliest k experts, with the gradient that is usual for them.

    z = the k largest of p = softmax(theta);   weights w = z p
    TopKGate:    gradient = sum_e z_e g_e dp_e / dtheta,   g_e = df / dw_e: of the gate of the chosen experts alone
    DenseMixer:  gradient = sum_e g_e dp_e / dtheta: as if every expert had been taken

Neither is the gradient of an expectation. They are what estimators of one are held against. A `Router` multiplies z by
p and has the gate's gradient; for the draw nothing is left with `TopKGate`, the rest of the sum with `DenseMixer`.

Source: N. Shazeer et al., 2017, 1701.06538; D. Lepikhin et al., GShard, 2020, 2006.16668; W. Fedus et al., Switch
Transformers, 2021, 2101.03961. F. Yao et al., DenseMixer, 2025 (yaof20/DenseMixer).
"""

from typing import Literal

import torch
from torch import Tensor

from ils_lightning.estimators import Pullback
from ils_lightning.estimators.categorical import top


class TopKGate(Pullback):
    """The likeliest k experts; the gradient is that of their gates, the choice has none.

    Args:
        size: k, the number of experts.

    Example:
        >>> TopKGate(size=2).sample(torch.tensor([[[0.0, 2.0, 1.0]]]))
        tensor([[[0., 1., 1.]]])
    """

    source = "Fedus et al. 2021, 2101.03961"
    hard = False

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self.size = self.whole("size", size, 1)
        self.ones = size

    @property
    def needs_slopes(self) -> Literal["all", "drawn", "none"]:
        return "drawn"

    def draw(self, logits: Tensor, pi: Tensor) -> Tensor:
        return top(logits, self.size).to(pi.dtype)

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        return torch.zeros_like(pi)


class DenseMixer(TopKGate):
    """The likeliest k experts; backward is that of the mixture of all experts, which must all be computed.

    Args:
        size: k, the number of experts.

    Example:
        >>> DenseMixer().needs_slopes
        'all'
    """

    source = "Yao et al. 2025, github.com/yaof20/DenseMixer"

    @property
    def needs_slopes(self) -> Literal["all", "drawn", "none"]:
        return "all"

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        """With weights z p, g is p times the slope in the weight: sum_e (1 - z_e) g_e dlog p_e / dtheta is left."""
        left = (1 - z) * g
        return left - pi * left.sum(dim=-1, keepdim=True)
