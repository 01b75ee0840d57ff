"""The fixed losses that estimators are tried on, and their expectation by enumeration, apart from the estimators' code.

A problem is one row of logits and a row-wise loss f(z + theta): theta `[*batch, latents, categories]`, zero unless
given, is the parameter inside the loss.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Base = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    """Logits of one row `[latents, categories]` and a loss of z + theta, both in float64."""

    name: str
    logits: Tensor
    base: Base

    def loss(self, theta: Tensor | float = 0.0) -> Base:
        return lambda z: self.base(z + theta)


def _numbers(latents: int, categories: int) -> Callable[..., Tensor]:
    """A source of normal numbers: the same on every device, on the one that is the default."""
    generator, place = torch.Generator("cpu").manual_seed(1000 * latents + categories), torch.get_default_device()
    return lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator, device="cpu").to(place)


def linear(latents: int, categories: int) -> Problem:
    """f(z) = a.z."""
    randn = _numbers(latents, categories)
    logits, a = randn(latents, categories), randn(latents, categories)
    return Problem("linear", logits, lambda z: (a.to(z) * z).sum(dim=(-2, -1)))


def quadratic(latents: int, categories: int) -> Problem:
    """f(z) = a.z + 1/2 z.A z, A full and symmetric over all latents."""
    randn, size = _numbers(latents, categories), latents * categories
    logits, a, root = randn(latents, categories), randn(size), randn(size, size)
    A = (root + root.T) / 2

    def base(z: Tensor) -> Tensor:
        flat = z.flatten(-2)
        return (flat * (a.to(z) + flat @ A.to(z) / 2)).sum(dim=-1)

    return Problem("quadratic", logits, base)


def mlp(latents: int, categories: int, hidden: int = 6) -> Problem:
    """f(z) = v.tanh(W z + b): no polynomial estimator is exact on it."""
    randn, size = _numbers(latents, categories), latents * categories
    logits, W, b, v = randn(latents, categories), 1.5 * randn(size, hidden), randn(hidden), randn(hidden)

    def base(z: Tensor) -> Tensor:
        return torch.tanh(z.flatten(-2) @ W.to(z) + b.to(z)) @ v.to(z)

    return Problem("mlp", logits, base)


def states(latents: int, categories: int) -> Tensor:
    """All one-hot states `[categories ** latents, latents, categories]`."""
    grid = list(itertools.product(range(categories), repeat=latents))
    return torch.nn.functional.one_hot(torch.tensor(grid), categories).double()


def expectation(logits: Tensor, f: Base) -> Tensor:
    """E f(z) of one row of logits, differentiable in the logits and in what f holds."""
    z = states(*logits.shape)
    p = (z * logits.log_softmax(dim=-1)).sum(dim=(-2, -1)).exp()
    return (p * f(z)).sum()


def truth(problem: Problem, objective: Callable[[Tensor, Base], Tensor] = expectation) -> dict[str, Tensor]:
    """The objective of a problem and its gradients with respect to logits and theta."""
    logits = problem.logits.clone().requires_grad_()
    theta = torch.zeros_like(logits, requires_grad=True)
    loss = objective(logits, problem.loss(theta))
    gradient, inside = torch.autograd.grad(loss, (logits, theta))
    return {"loss": loss.detach(), "gradient": gradient, "theta": inside}
