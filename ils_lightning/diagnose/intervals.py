"""Confidence intervals for the length of a vector known by noisy copies: the bias of an estimator.

Blocks of estimates have means m_1..m_J. With mean error e = mean m_j - G about b, of covariance V/J,
    T = |e|^2,   E T = |b|^2 + tr V/J,   Var T = 2 tr (V/J)^2 + 4 b.(V/J) b,
    third cumulant of T = 8 tr (V/J)^3 + 24 b.(V/J)^2 b.
T is matched to a shifted chi-square by these three, and the interval holds every |b| at which the T seen is not in a
tail. Near |b| = 0 it is one-sided, far from it Student's. The traces come from the blocks' Gram matrix, tr (V/J)^2
without the bias that a sample covariance has in many dimensions, tr (V/J)^3 from the other two as if the eigenvalues
that matter were equal.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

TAIL = 0.015
"""Nominal probability of each tail: what rare draws take from it leaves intervals of 95 per cent."""
Z = 2.170090
"""The normal quantile that leaves `TAIL`."""


class Interval(NamedTuple):
    """A value and its 95 per cent confidence interval."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Interval":
        """The interval of `factor` times the value."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


class Noise(NamedTuple):
    """The noise of a mean error e: tr V/J, tr (V/J)^2, e.(V/J) e / |e|^2, and degrees of freedom."""

    trace: float
    square: float
    along: float
    freedom: int


def student(freedom: int) -> float:
    """The quantile of Student's t that leaves `TAIL` (Cornish and Fisher's expansion).

    Example:
        >>> round(student(10), 2), round(student(1000), 2)
        (2.53, 2.17)
    """
    n = freedom
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / (384 * n**3)
    return Z + (Z**3 + Z) / (4 * n) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * n**2) + third


def mean_interval(values: Tensor) -> Interval:
    """The mean of independent `values` `[n]` and Student's interval."""
    mean, reach = values.mean().item(), student(len(values) - 1) * values.std().item() / len(values) ** 0.5
    return Interval(mean, mean - reach, mean + reach)


def positive_interval(values: Tensor) -> Interval:
    """The mean of independent positive `values` `[n]`, with Student's interval of its logarithm."""
    mean = values.mean().item()
    if mean <= 0:
        return Interval(0.0, 0.0, 0.0)
    factor = math.exp(student(len(values) - 1) * values.std().item() / len(values) ** 0.5 / mean)
    return Interval(mean, mean / factor, mean * factor)


def noise_of(errors: Tensor, reference: Tensor | None = None) -> Noise:
    """The noise of the mean of block errors `[blocks, components]`.

    Args:
        errors: block means less the target.
        reference: where the target itself is a mean of blocks, those less their mean `[blocks, components]`.
    """
    mean = errors.mean(dim=0)
    centred = errors - mean
    found = _one(centred, mean)
    if reference is None:
        return found
    other = _one(reference, mean)
    m, n = len(errors) - 1, len(reference) - 1
    cross = (centred @ reference.mT).square().sum().item() / (m * n * len(errors) * len(reference))
    return Noise(
        found.trace + other.trace, found.square + other.square + 2 * cross, found.along + other.along, min(m, n)
    )


def _one(centred: Tensor, direction: Tensor) -> Noise:
    blocks, m = len(centred), len(centred) - 1
    gram = centred @ centred.mT
    trace = gram.trace().item() / m
    square = m**2 / ((m + 2) * (m - 1)) * (gram.square().sum().item() / m**2 - trace**2 / m)
    square = max(square, trace**2 / centred.shape[1])
    length = direction.square().sum().item()
    along = (centred @ direction).square().sum().item() / m / length if length else trace
    return Noise(trace / blocks, square / blocks**2, along / blocks, m)


def length_interval(square: float, noise: Noise) -> Interval:
    """The interval of |b| where T = |e|^2 is `square`; its value has the noise taken off."""
    value = math.sqrt(max(0.0, square - noise.trace))
    if noise.trace <= 1e-20 * (square + 1e-300):
        return Interval(math.sqrt(square), math.sqrt(square), math.sqrt(square))
    top = math.sqrt(square) + 20 * math.sqrt(noise.trace + noise.along)
    low = _solve(lambda b: 1 - _below(square, b, noise) >= TAIL, top)
    high = _solve(lambda b: _below(square, b, noise) <= TAIL, top)
    return Interval(min(max(value, low), high), low, high)


def _below(t: float, length: float, noise: Noise) -> float:
    """P(T <= t) where |b| is `length`."""
    wider = (student(noise.freedom) / Z) ** 2  # for the covariance is itself estimated
    a, trace, square = noise.along * wider, noise.trace, noise.square * wider
    variance = 2 * square + 4 * length**2 * a
    third = 8 * square**2 / (trace * wider) + 24 * length**2 * a**2
    freedom = 8 * variance**3 / third**2
    x = freedom + (t - length**2 - trace) * math.sqrt(2 * freedom / variance)
    pair = torch.tensor([freedom / 2, max(0.0, x / 2)], dtype=torch.float64)
    return torch.special.gammainc(pair[0], pair[1]).item()


def _solve(reached: Callable[[float], bool], top: float) -> float:
    """The smallest length in [0, top] at which a monotone condition holds."""
    low, high = 0.0, top
    if reached(0.0):
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
