"""The law that an estimator is its paper's equation: it is compared with a slow, plain form of that, draw by draw.

A slow form is written from the paper alone, with loops over rows, latents and categories, and calls nothing of the
estimator but its options and networks. It gets what went into each estimate so far:

>>> import torch
>>> from ils_lightning.estimators import StraightThrough
>>> def slow(estimator, recordings):
...     last = recordings[-1]
...     (z,) = last.draws
...     g, estimate = last.slope(z)[0], torch.zeros_like(last.logits)
...     for row, theta in enumerate(last.logits):
...         for latent, pi in enumerate(theta.softmax(dim=-1)):
...             J = torch.diag(pi) - torch.outer(pi, pi)
...             estimate[row, latent] = J @ g[row, latent]
...     return estimate
>>> formula(StraightThrough, slow)
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from ils_lightning.estimators import Estimator, Loss
from ils_lightning.testing.laws import Make, require


@dataclass(frozen=True)
class Recording:
    """One step of an estimator and what went into it, all in float64.

    Attributes:
        logits: `[rows, latents, categories]`.
        f: the loss, which differs from row to row; smooth, of no finite degree.
        draws: the z of each call of f, in their order, `[samples, rows, latents, categories]`.
        uniforms: the result of each call of `torch.rand`, in their order.
        estimate: what the estimator made of them, like the logits.
    """

    logits: Tensor
    f: Loss
    draws: list[Tensor]
    uniforms: list[Tensor]
    estimate: Tensor

    def slope(self, z: Tensor) -> Tensor:
        """Returns df/dz at draws `[samples, rows, latents, categories]`."""
        leaf = z.detach().requires_grad_()
        return torch.autograd.grad(self.f(leaf).sum(), leaf)[0]


Slow = Callable[[Any, Sequence[Recording]], Tensor]


def formula(make: Make, slow: Slow, seeds: int = 3, steps: int = 5) -> None:
    """The estimate equals its slow form to ten digits: random sizes, logits and losses, several steps of learning.

    Args:
        make: makes a fresh estimator.
        slow: maps the estimator as it was before its first step, and the recordings of all its steps so far, to the
            estimate of the last one. State is to be recomputed from the earlier recordings.
        seeds: random problems tried.
        steps: steps in training mode on each of them; the estimate of each is compared.
    """
    for seed in range(seeds):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _compare(make().double(), slow, steps, latents=1 + seed % 3)


def _compare(estimator: Estimator, slow: Slow, steps: int, latents: int) -> None:
    rows, categories = (int(torch.randint(3, 6, ())) for _ in range(2))
    categories = 2 if estimator.binary else categories
    estimator.build(latents, categories)
    estimator.double()  # what was built now too
    with torch.no_grad():
        for parameter in estimator.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # a network that starts at zero would hide its terms
    before, recordings = copy.deepcopy(estimator), []
    for number in range(steps):
        logits = torch.randn(rows, latents, categories, dtype=torch.float64)
        recordings.append(record(estimator, logits, random_loss(rows, latents, categories)))
        expected, found = slow(before, recordings).detach(), recordings[-1].estimate
        away = (found - expected).abs().max().item()
        require(
            away <= 1e-10 * (1 + expected.abs().max().item()),
            f"the estimate must equal its slow form; in step {number + 1} with {rows} rows of {latents} latents x "
            f"{categories} categories it is {away:.3g} away, where the slow form is at most "
            f"{expected.abs().max().item():.3g}",
        )


def record(estimator: Estimator, logits: Tensor, f: Loss) -> Recording:
    """Estimates, and keeps every draw that f sees and every uniform number."""
    draws, uniforms, rand = [], [], torch.rand

    def seen(z: Tensor) -> Tensor:
        draws.append(z.detach().clone())
        return f(z)

    def kept(*args: Any, **options: Any) -> Tensor:
        uniforms.append(rand(*args, **options))
        return uniforms[-1].clone()

    with patch.object(torch, "rand", kept):
        _, estimate = estimator.estimate(logits, seen)
    return Recording(logits, f, draws, uniforms, estimate.detach())


def random_loss(rows: int, latents: int, categories: int, hidden: int = 4) -> Loss:
    """A loss v.tanh(W z + x) + 1 of draws `[samples, rows, latents, categories]`, with an x for each row."""
    W, v = torch.randn(latents * categories, hidden, dtype=torch.float64), torch.randn(hidden, dtype=torch.float64)
    x = torch.randn(rows, hidden, dtype=torch.float64)
    return lambda z: torch.tanh(z.flatten(-2) @ W.to(z) + x.to(z)) @ v.to(z) + 1
