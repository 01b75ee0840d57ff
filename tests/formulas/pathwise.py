"""Straight-through and its relatives."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from formulas import form_of
from formulas.plain import J, by_vector, each, exponential, one_hot, perturbed, softmax
from ils_lightning.estimators import (
    AdaptiveImplicitMLE,
    GappedStraightThrough,
    ImplicitMLE,
    MinimumVariance,
    ReinMax,
    StraightThrough,
    TopKSubset,
)
from ils_lightning.testing.formula import Recording


@form_of(StraightThrough)
def straight_through(estimator: StraightThrough, recordings: Sequence[Recording]) -> Tensor:
    tau = estimator.temperature
    return by_vector(recordings[-1], lambda theta, z, g: J(softmax(theta / tau)) @ g / tau)


def rein_max_of(theta: Tensor, z: Tensor, g: Tensor, tau: float = 1.0) -> Tensor:
    return 2 * J((softmax(theta / tau) + z) / 2) @ g - J(softmax(theta)) @ g / 2


@form_of(ReinMax)
def rein_max(estimator: ReinMax, recordings: Sequence[Recording]) -> Tensor:
    return by_vector(recordings[-1], lambda theta, z, g: rein_max_of(theta, z, g, estimator.temperature))


@form_of(GappedStraightThrough)
def gapped(estimator: GappedStraightThrough, recordings: Sequence[Recording]) -> Tensor:
    tau = estimator.temperature

    def one(theta: Tensor, z: Tensor, g: Tensor) -> Tensor:
        drawn, M = float(softmax(theta) @ z), theta.max()
        gap = -math.log(1 - drawn) / drawn if estimator.gap == "adaptive" else estimator.gap
        moved = theta + z * (M - theta) - (1 - z) * torch.relu(theta - M + gap)
        return J(softmax(moved / tau)) @ g / tau

    return by_vector(recordings[-1], one)


def least_squares(pi: Tensor, tau: float) -> Tensor:
    """S `[x, i, c]` of least 1/2 sum pi_x |S(x)|^2 + tau/4 |bracket|^2 with sum pi_x S(x) = J: its KKT equations."""
    K, pairs = len(pi), list(itertools.product(range(len(pi)), repeat=2))
    bracket, mean, variance = (torch.zeros(rows, K * K, dtype=torch.float64) for rows in (K * K, K, K * K))
    for number, (x, i) in enumerate(pairs):  # s[x, i] is unknown x * K + i
        variance[number, number] = pi[x]
        bracket[number, x * K + i] += pi[x]
        bracket[number, i * K + x] += pi[i]
        mean[i, x * K + i] = pi[x]
    target = torch.zeros(K * K, K, dtype=torch.float64)
    for number, (x, i) in enumerate(pairs):
        target[number] = J(pi)[i] if i == x else 0
    soft = tau < math.inf
    quadratic = variance + (tau / 2 * bracket.T @ bracket if soft else 0)
    linear = tau / 2 * bracket.T @ target if soft else torch.zeros_like(target)
    rule, right = (mean, J(pi)) if soft else (torch.cat([mean, bracket]), torch.cat([J(pi), target]))
    zero = torch.zeros(len(rule), len(rule), dtype=torch.float64)
    kkt = torch.cat([torch.cat([quadratic, rule.T], dim=1), torch.cat([rule, zero], dim=1)])
    return (torch.linalg.pinv(kkt, rtol=1e-12) @ torch.cat([linear, right]))[: K * K].reshape(K, K, K)


@form_of(MinimumVariance)
def minimum_variance(estimator: MinimumVariance, recordings: Sequence[Recording]) -> Tensor:
    def one(theta: Tensor, z: Tensor, g: Tensor) -> Tensor:
        return least_squares(softmax(theta), estimator.penalty)[int(z.argmax())].T @ g

    return by_vector(recordings[-1], one)


@form_of(TopKSubset)
def top_k(estimator: TopKSubset, recordings: Sequence[Recording]) -> Tensor:
    def one(theta: Tensor, z: Tensor, g: Tensor) -> Tensor:
        del z
        subsets = list(itertools.combinations(range(len(theta)), estimator.size))
        ones = torch.stack([sum(one_hot(k, len(theta)) for k in subset) for subset in subsets])
        p = softmax(ones @ theta)
        centred = ones - p @ ones
        return (p[:, None] * centred).T @ centred @ g

    return by_vector(recordings[-1], one)


@form_of(ImplicitMLE)
def implicit_mle(estimator: ImplicitMLE, recordings: Sequence[Recording]) -> Tensor:
    last, lam = recordings[-1], estimator.scale
    (z,), E = last.draws, exponential(last.uniforms[-1])
    g, estimate = last.slope(z), torch.zeros_like(last.logits)
    for b, i in each(last):
        moved = perturbed(last.logits[b, i], z[0, b, i], E[b, i]) - lam * g[0, b, i]
        estimate[b, i] = (z[0, b, i] - one_hot(int(moved.argmax()), len(moved))) / lam
    return estimate


@form_of(AdaptiveImplicitMLE)
def adaptive_implicit_mle(estimator: AdaptiveImplicitMLE, recordings: Sequence[Recording]) -> Tensor:
    beta, m = estimator.beta.item(), estimator.moved.item()
    for recording in recordings:
        (z,), E = recording.draws, exponential(recording.uniforms[-1])
        g, estimate = recording.slope(z), torch.zeros_like(recording.logits)
        lam = beta * recording.logits.norm() / g.norm()
        non_zero = []
        for b, i in each(recording):
            noisy, step = perturbed(recording.logits[b, i], z[0, b, i], E[b, i]), lam * g[0, b, i]
            up, down = (one_hot(int(x.argmax()), len(x)) for x in (noisy + step, noisy - step))
            estimate[b, i] = (up - down) / (2 * lam)
            non_zero.append(float((up - down).abs().sum()))
        m = 0.9 * m + 0.1 * sum(non_zero) / len(recording.logits)
        beta = max(0.0, beta + estimator.rate * ((estimator.target > m) - (estimator.target < m)))
    return estimate
