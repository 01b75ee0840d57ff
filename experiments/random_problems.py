"""Random small problems on which variances are compared, written down before any was run.

One scale rule: every weight and bias is N(0, 1 / fan-in), every logit N(0, 1). K = 2, 3, 5, 8 categories, L = 1, 2, 4
latents, n = K L, three kinds of loss f(z, x), x being what tells rows apart:

    quadratic   x.z + 1/2 z.A z            A symmetric Gaussian, entries N(0, 1/n) (2/n on the diagonal), x ~ N(0, 1/n)
    mlp         v.tanh(W (z, x) + b)       32 hidden units, x ~ N(0, 1) of 8 numbers
    decoder     BCE(V relu(W z + b) + c, x)    32 hidden units, 16 pixels, x fair coins; summed over pixels

Rows alike: one x and one row of logits, for all rows. Rows that differ: an x and logits for each row, one set of
weights. A set is the 36 problems of one seed; sets 0, 1 and 2 are the registered ones.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ils_lightning.estimators import Estimator
from ils_lightning.estimators.family import Step, product

KINDS = ("quadratic", "mlp", "decoder")
CATEGORIES = (2, 3, 5, 8)
LATENTS = (1, 2, 4)
HIDDEN, INPUTS, PIXELS = 32, 8, 16
Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class RandomProblem:
    """Logits `[rows, latents, categories]` and a row-wise loss of z `[..., rows, latents, categories]`."""

    kind: str
    categories: int
    latents: int
    alike: bool
    logits: Tensor
    loss: Loss


def random_set(seed: int, rows: int, alike: bool) -> Iterator[RandomProblem]:
    """The 36 problems of a seed."""
    for number, (kind, categories, latents) in enumerate(itertools.product(KINDS, CATEGORIES, LATENTS)):
        yield random_problem(kind, categories, latents, rows, alike, seed=1000 * seed + number)


def random_problem(kind: str, categories: int, latents: int, rows: int, alike: bool, seed: int) -> RandomProblem:
    generator = torch.Generator().manual_seed(seed)
    size = categories * latents

    def randn(*shape: int, fan_in: int = 1) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator) / fan_in**0.5

    own = 1 if alike else rows
    if kind == "quadratic":
        root = randn(size, size, fan_in=size) / 2**0.5
        loss = quadratic(root + root.T, randn(own, size, fan_in=size))
    elif kind == "mlp":
        fan_in = size + INPUTS
        W, b, v = randn(fan_in, HIDDEN, fan_in=fan_in), randn(HIDDEN, fan_in=fan_in), randn(HIDDEN, fan_in=HIDDEN)
        loss = mlp(W, b, v, randn(own, INPUTS))
    else:
        W, b = randn(size, HIDDEN, fan_in=size), randn(HIDDEN, fan_in=size)
        V, c = randn(HIDDEN, PIXELS, fan_in=HIDDEN), randn(PIXELS, fan_in=HIDDEN)
        loss = decoder(W, b, V, c, (randn(own, PIXELS) > 0).double())
    return RandomProblem(kind, categories, latents, alike, randn(own, latents, categories).expand(rows, -1, -1), loss)


def newton_step(pi: Tensor, z: Tensor, g: Tensor, H: Tensor, s: float) -> Tensor:
    """The family's estimate for a given curvature and base."""
    R = Step(pi, z, s)
    return R(g - product(H, z)) + R.explained(H)


def quadratic(A: Tensor, x: Tensor) -> Loss:
    return lambda z: (z.flatten(-2) * (x + z.flatten(-2) @ A / 2)).sum(dim=-1)


def mlp(W: Tensor, b: Tensor, v: Tensor, x: Tensor) -> Loss:
    inputs = x @ W[-INPUTS:] + b
    return lambda z: torch.tanh(z.flatten(-2) @ W[:-INPUTS] + inputs) @ v


def decoder(W: Tensor, b: Tensor, V: Tensor, c: Tensor, x: Tensor) -> Loss:
    def loss(z: Tensor) -> Tensor:
        pixels = torch.relu(z.flatten(-2) @ W + b) @ V + c
        return (torch.nn.functional.softplus(pixels) - x * pixels).sum(dim=-1)

    return loss


def replicates(problem: RandomProblem, estimator: Estimator, steps: int, count: int, seed: int = 0) -> Tensor:
    """Estimates `[rows, count, latents, categories]` at the last of `steps` steps, in `count` independent runs.

    Runs lie along the latents: the loss is a sum over runs, and whatever an estimator pools, it pools per latent.
    """
    torch.manual_seed(seed)
    logits = problem.logits.repeat(1, count, 1)

    def loss(z: Tensor) -> Tensor:
        return problem.loss(z.unflatten(-2, (count, problem.latents)).movedim(-3, 0)).sum(dim=0)

    for _ in range(steps - 1):
        estimator.estimate(logits, loss)
    return estimator.estimate(logits, loss)[1].detach().unflatten(-2, (count, problem.latents))


def noise(estimator: Estimator, problem: RandomProblem, steps: int = 20, count: int = 100, seed: int = 0) -> float:
    """Variance of a row's estimate, summed over components, mean over rows, in one state: that after `steps` steps."""
    torch.manual_seed(seed)
    for _ in range(steps):
        estimator.estimate(problem.logits, problem.loss)
    estimates = estimator.eval().estimate(problem.logits.expand(count, *problem.logits.shape), problem.loss)[1]
    return estimates.var(dim=0).sum(dim=(-2, -1)).mean().item()


def row_variance(estimates: Tensor) -> Tensor:
    """Variance over runs of one row's estimate, summed over its components, mean over rows."""
    return estimates.var(dim=1).sum(dim=(-2, -1)).mean()


def batch_variance(estimates: Tensor) -> Tensor:
    """Variance over runs of the batch's mean estimate, times the rows: what is common to the rows counts in full."""
    return estimates.mean(dim=0).var(dim=0).sum() * len(estimates)
