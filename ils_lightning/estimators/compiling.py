"""What torch.compile makes of `estimator(logits, f)`: one graph, or pieces, and why (`Estimator.graph_breaks`).

Either way values, gradients and what is learnt are those of a plain call.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

POOLS = "its backward pass pools rows and changes what it has learnt, which no graph holds: f alone is compiled"
LEARNS_BY_GRADIENT = "its own parameters learn from derivatives of the estimate: neither it nor f is compiled"
ASKS_DERIVATIVES = "it asks f for derivatives before f's own backward pass: neither it nor f is compiled"
COUNTS_SUPPORTS = "the logits decide how many states it evaluates: neither it nor f is compiled"


def outside(function: Callable[..., Any], *inputs: Any) -> Any:
    """Calls a function and all that it calls as Python does, also where torch.compile is at work."""
    if torch.compiler.is_compiling():
        return torch.compiler.disable(function)(*inputs)
    return function(*inputs)


class Compilable(nn.Module):
    """What a class says of torch.compile.

    Attributes:
        uncompiled: why torch.compile must leave the estimator and f alone; empty where it need not.
    """

    uncompiled: ClassVar[str] = ""
    pooled: bool

    @property
    def graph_breaks(self) -> str:
        """Why torch.compile takes `estimator(logits, f)` in pieces while it trains; empty where it makes one graph."""
        if self.uncompiled:
            return self.uncompiled
        if any(p.requires_grad for p in self.parameters()):
            return LEARNS_BY_GRADIENT
        return POOLS if self.pooled else ""
