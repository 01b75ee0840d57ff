"""Ordered levels by the proportional-odds model (McCullagh, 1980).

P(x > k) = sigmoid(theta - c_k),   k = 0 .. levels - 2;   cut points c_k equally spaced around 0
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ils_lightning.errors import Refusal
from ils_lightning.variables.variable import Variable


class Ordinal(Variable):
    """An ordered level 0 .. levels - 1 whose parameter is its location on the logit scale.

    Args:
        levels: number of levels, at least 2.
        spacing: distance of neighbouring cut points, in logits; large ones make draws sure of their level.

    Raises:
        ValueError: when an option is out of range.

    Example:
        >>> import torch
        >>> from ils_lightning.estimators import ILSNewton
        >>> theta = torch.zeros(64, 1, requires_grad=True)
        >>> loss = Ordinal(levels=5)(ILSNewton(), theta, lambda x: (x[..., 0] - 3.0).square())
        >>> loss.sum().backward()
        >>> bool(theta.grad.mean() < 0)
        True
    """

    cuts: Tensor

    def __init__(self, levels: int = 5, spacing: float = 1.0) -> None:
        super().__init__()
        if levels < 2:
            raise Refusal(f"Ordinal: levels must be at least 2; given {levels}")
        if not 0 < spacing < float("inf"):
            raise Refusal(f"Ordinal: spacing must be greater than 0 and finite; given {spacing}")
        cuts = spacing * (torch.arange(levels - 1) - (levels - 2) / 2)
        self.register_buffer("support", torch.arange(levels, dtype=torch.get_default_dtype()), persistent=False)
        self.register_buffer("cuts", cuts, persistent=False)
        self.spacing = spacing

    def logits(self, theta: Tensor) -> Tensor:
        away = theta.unsqueeze(-1) - self.cuts.to(theta)
        above, below = logsigmoid(away), logsigmoid(-away)  # log P(x > k), log P(x <= k)
        # P(x > k - 1) - P(x > k) = P(x > k - 1) P(x <= k) (1 - exp(-spacing)): no difference of nearly equal numbers
        inner = above[..., :-1] + below[..., 1:] + torch.log1p(-torch.exp(theta.new_tensor(-self.spacing)))
        return torch.cat([below[..., :1], inner, above[..., -1:]], dim=-1)
