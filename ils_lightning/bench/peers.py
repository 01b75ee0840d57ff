"""What a user would pick instead: differentiable draws by other means, and the work below which none can go."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.distributions import OneHotCategoricalStraightThrough, RelaxedOneHotCategorical
from torch.nn import functional

Draw = Callable[[Tensor], Tensor]

REFERENCE = "F.gumbel_softmax"
RELEASED = "released reinmax"
FLOOR = "softmax alone"
COPY = "copy alone"


def peers() -> dict[str, Draw]:
    """Returns differentiable draws `[..., categories]` of logits, by name; the released reinmax where installed.

    They are F.gumbel_softmax(hard=True), the two distributions of torch (OneHotCategoricalStraightThrough and
    RelaxedOneHotCategorical at temperature 1), and `plain_gumbel`.
    """
    found: dict[str, Draw] = {
        REFERENCE: lambda logits: functional.gumbel_softmax(logits, hard=True),
        "OneHotCategoricalST": _straight_through,
        "RelaxedOneHot": _relaxed,
        "-log(-log(u))": plain_gumbel,
    }
    if find_spec("reinmax"):
        found[RELEASED] = _released_reinmax
    return found


def floors() -> dict[str, Draw]:
    """Returns a softmax, whose backward every estimator needs, and a copy, the least that makes a new tensor."""
    return {FLOOR: lambda logits: torch.softmax(logits, dim=-1), COPY: torch.clone}


def plain_gumbel(logits: Tensor) -> Tensor:
    """Straight-through Gumbel-Softmax at temperature 1, with noise from one uniform a category."""
    noise = -torch.log(-torch.log(torch.rand_like(logits)))
    soft = torch.softmax(logits + noise, dim=-1)
    hard = torch.zeros_like(logits).scatter_(-1, soft.argmax(dim=-1, keepdim=True), 1.0)
    return hard - soft.detach() + soft


def _straight_through(logits: Tensor) -> Tensor:
    return OneHotCategoricalStraightThrough(logits=logits, validate_args=False).rsample()


def _relaxed(logits: Tensor) -> Tensor:
    return RelaxedOneHotCategorical(logits.new_ones(()), logits=logits, validate_args=False).rsample()


def _released_reinmax(logits: Tensor) -> Tensor:
    from reinmax import reinmax

    return reinmax(logits, 1.0)[0]
