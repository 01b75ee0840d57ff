"""The gradient that a router gets, held against that of the expected loss, in the last layer of experts.

There a token's loss depends on its own expert alone, so the expectation is a sum over the experts:

    G = d/dtheta sum_e p_e l(w_e),   p = softmax(theta),   w_e the weight of expert e alone, l the token's loss
    estimate = d/dtheta of the drawn experts' loss, by the draw's estimator and by the weights' own dependence on p

What `TopKGate` and `DenseMixer` give has no draw, and is held against the same G. One expert a token only: draws of
several one after another (`SparseMixer`) follow another distribution than subsets do.
"""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ils_lightning.layers import Router
from ils_lightning.layers.router import Routing

LossOfWeights = Callable[[Tensor], Tensor]
"""Maps the experts' weights `[*batch, tokens, experts]` to the losses `[*batch, tokens]`."""


def exact(logits: Tensor, router: Router, loss: LossOfWeights) -> Tensor:
    """Returns G `[tokens, experts]`, of logits alike."""
    theta = logits.detach().requires_grad_()
    p = theta.softmax(dim=-1)
    each = torch.eye(router.experts, dtype=p.dtype, device=p.device).unsqueeze(1)  # [experts, 1, experts]
    alone = each * p if router.weighs_by_probability else each.expand(-1, len(p), -1)
    (gradient,) = torch.autograd.grad((p.T * loss(alone)).sum(), theta)
    return gradient


def estimates(logits: Tensor, router: Router, loss: LossOfWeights, group: int, replicates: int) -> Tensor:
    """Returns what the logits get of single steps, `[replicates, tokens, experts]`; nothing is learnt.

    Args:
        logits: of each token `[tokens, experts]`.
        router: in evaluation mode.
        loss: of the weights.
        group: draws of a token that are held against each other.
        replicates: how many.
    """
    found = []
    with _drawing(router):
        for _ in range(replicates):
            theta = logits.detach().requires_grad_()
            routing: Routing = router(theta.expand(group, *theta.shape))
            cost = loss(routing.weights)
            total = cost.sum() if routing.credit is None else cost.sum() + routing.credit(cost.detach()).sum()
            found.append(torch.autograd.grad(total / group, theta)[0])
    return torch.stack(found)


@contextmanager
def _drawing(router: Any):
    """Lets a router draw as in training while its estimator, in evaluation mode, does not learn."""
    mode, router.training = router.training, True
    try:
        yield
    finally:
        router.training = mode
