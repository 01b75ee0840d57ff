"""The gradient itself, by enumeration of all categories ** latents states.

E f = sum_z p(z) f(z);   d E f / d theta = sum_z p(z) (f(z) - E f) (z - pi)

It is left to autograd, so that second and higher derivatives, and those across theta and f's parameters, are as exact.
"""

import torch
from torch import Tensor

from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators import joint
from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.categorical import enumerate_states, softmax
from ils_lightning.estimators.delivery import Tie, call
from ils_lightning.estimators.loss import known_expectation


class Exact(Estimator):
    """Sums f over every state; the loss is the expectation itself, and so is the gradient inside f.

    A loss that knows its own expectation (`Loss`) is asked for it, whatever the number of states.

    A layer of f with batch statistics (BatchNorm) sees every state once, however improbable.

    Args:
        limit: largest number of states; beyond it a ValueError is raised.
        chunk: states evaluated in one call of f (bounds memory when f has no parameters to train).

    Example:
        >>> import torch
        >>> Exact()(torch.zeros(1, 2, 3), lambda z: z[..., 0].sum(-1))
        tensor([0.6667])
    """

    kind = "exact"
    equation = r"""
        \mathbb{E} f &= \sum_z p(z) f(z) \\
        \frac{\partial \, \mathbb{E} f}{\partial \theta} &= \sum_z p(z) \left(f(z) - \mathbb{E} f\right) (z - \pi)
    """
    cost = "K^L"
    unbiased = True
    exact_for = "all"

    def __init__(self, limit: int = 2**16, chunk: int = 2**16) -> None:
        super().__init__()
        require_at_least(1, "Exact", limit=limit, chunk=chunk)
        self.limit, self.chunk = limit, chunk

    def evaluations(self, latents: int, categories: int) -> int:
        return categories**latents

    def evaluations_of(self, f: Loss, latents: int, categories: int) -> int:
        return 1 if known_expectation(f) else self.evaluations(latents, categories)

    def _check_size(self, latents: int, categories: int) -> None:
        if categories**latents > self.limit:
            raise Refusal(
                f"Exact enumerates categories ** latents states; {categories} ** {latents} = {categories**latents} "
                f"exceeds limit = {self.limit}. LeaveOneOut is unbiased at any size"
            )

    def forward(self, logits: Tensor, f: Loss) -> Tensor:
        """Returns the expectation `[*batch]`, a function of the logits that can be differentiated at will."""
        self.check(logits)
        if not torch.is_grad_enabled():
            return self.value(logits, f)
        self._check_coupling(logits, f)
        theta, tie = call(Tie, logits, "Exact")
        expectation = self._expectation(theta, f)
        return expectation + tie.to(expectation.dtype)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            theta = logits.detach().requires_grad_()
            expectation = self._expectation(theta, f)
            (estimate,) = torch.autograd.grad(expectation.sum(), theta, retain_graph=True)
        return expectation, estimate

    def _expectation(self, theta: Tensor, f: Loss) -> Tensor:
        known = known_expectation(f)
        if known is not None:
            return known(softmax(theta)).to(theta.dtype)
        self._check_size(*theta.shape[-2:])
        p = joint.log_prob(theta).exp()
        states = enumerate_states(*theta.shape[-2:], like=theta)
        parts = []
        for z, weight in zip(states.split(self.chunk), p.movedim(-1, 0).split(self.chunk), strict=True):
            z = z.reshape(len(z), *[1] * (p.dim() - 1), *z.shape[1:]).expand(len(z), *theta.shape)
            loss = evaluate(f, z.clone())  # f may write into it
            parts.append((weight * torch.where(weight > 0, loss, 0)).sum(dim=0).to(loss.dtype))
        return torch.stack(parts).sum(dim=0)
