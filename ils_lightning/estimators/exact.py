"""The gradient itself, by enumeration of all categories ** latents states.

E f = sum_z p(z) f(z);   d E f / d theta = sum_z p(z) (f(z) - E f) (z - pi)
"""

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.categorical import enumerate_states, log_prob, softmax


class Exact(Estimator):
    """Sums f over every state; the loss is the expectation itself, and so is the gradient inside f.

    Args:
        limit: largest number of states; beyond it a ValueError is raised.
        chunk: states evaluated in one call of f (bounds memory when f has no parameters to train).

    Example:
        >>> import torch
        >>> Exact()(torch.zeros(1, 2, 3), lambda z: z[..., 0].sum(-1))
        tensor([0.6667])
    """

    kind = "exact"
    cost = "K^L"
    unbiased = True
    exact_for = "all"

    def __init__(self, limit: int = 2**16, chunk: int = 2**16) -> None:
        super().__init__()
        if limit < 1 or chunk < 1:
            raise Refusal(f"Exact: limit and chunk must be at least 1; given {limit} and {chunk}")
        self.limit, self.chunk = limit, chunk

    def evaluations(self, latents: int, categories: int) -> int:
        return categories**latents

    def _check_size(self, latents: int, categories: int) -> None:
        if categories**latents > self.limit:
            raise Refusal(
                f"Exact enumerates categories ** latents states; {categories} ** {latents} = {categories**latents} "
                f"exceeds limit = {self.limit}. LeaveOneOut is unbiased at any size"
            )

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        self._check_size(*logits.shape[-2:])
        theta = logits.detach()
        pi = softmax(theta)
        states = enumerate_states(*theta.shape[-2:], like=pi)
        loss, moment = pi.new_zeros(()), pi.new_zeros(())
        for z in states.split(self.chunk):
            z = z.reshape(len(z), *[1] * (pi.dim() - 2), *pi.shape[-2:]).expand(-1, *pi.shape)
            p = log_prob(theta, z).sum(dim=-1).exp()
            weighted = torch.where(p > 0, p * evaluate(f, z.to(logits.dtype)), 0)
            loss = loss + weighted.sum(dim=0)
            moment = moment + torch.einsum("s...,s...lk->...lk", weighted.detach(), z)
        return loss.to(logits.dtype), (moment - loss.detach()[..., None, None] * pi).to(logits.dtype)
