"""Helpers of the pathwise estimators' tests: one latent whose df/dz is a table `[draw, category]`."""

import torch
from simulate import threshold
from torch import Tensor

from ils_lightning.estimators import Pullback


def table(categories: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits `[categories]` and df/dz at each draw `[categories, categories]`, of no particular form."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(categories, dtype=torch.float64, generator=generator)
    return theta, torch.randn(categories, categories, dtype=torch.float64, generator=generator)


def quadratic_table(categories: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, df/dz at each draw of a quadratic f = a.z + 1/2 z.A z, and the gradient of its expectation."""
    theta, root = table(categories, seed)
    a, A = theta.flip(0), root + root.T
    pi = theta.softmax(dim=-1)
    f = a + A.diagonal() / 2
    return theta, a + A, pi * (f - pi @ f)


def per_draw(estimator: Pullback, theta: Tensor, g: Tensor, copies: int = 1) -> Tensor:
    """The estimates given each draw, `[draw, copies, category]`."""
    z = torch.eye(len(theta), dtype=theta.dtype)
    shape = (len(theta), copies, len(theta))
    logits = theta.expand(shape)
    return estimator.pullback(logits, logits.softmax(dim=-1), z[:, None].expand(shape), g[:, None].expand(shape))


def mean_over_draws(theta: Tensor, estimates: Tensor) -> Tensor:
    """Expectation over the draw of estimates given it `[draw, copies, category]`: `[category]`."""
    return theta.softmax(dim=-1) @ estimates.mean(dim=1)


def score(x: Tensor, expected: Tensor | float, dim: int = 0) -> float:
    """Largest |z| of the mean of `x` over `dim` in units of its threshold: rejected above 1."""
    error = x.std(dim=dim) / x.shape[dim] ** 0.5
    z = ((x.mean(dim=dim) - expected) / error).abs()
    return z.max().item() / threshold(z.numel())


def two_sample_score(x: Tensor, y: Tensor) -> float:
    """Largest |z| of the difference in mean and in second moment, in units of its threshold."""
    x, y = (torch.cat([v, v.square()], dim=-1) for v in (x, y))
    error = (x.var(dim=0) / len(x) + y.var(dim=0) / len(y)).sqrt()
    z = ((x.mean(dim=0) - y.mean(dim=0)) / error).abs()
    return z.max().item() / threshold(z.numel())


def frequency_score(z: Tensor, p: Tensor) -> float:
    """Largest |z| of the frequencies of one-hot rows `[rows, states]` against probabilities `p`."""
    error = (p * (1 - p) / len(z)).sqrt()
    return ((z.mean(dim=0) - p) / error).abs().max().item() / threshold(p.numel())
