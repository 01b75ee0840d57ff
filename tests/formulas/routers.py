"""Draws of one expert from its own output, of several experts, and draws by diffusion."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from formulas import form_of
from formulas.plain import J, by_vector, each, one_hot, softmax
from ils_lightning.estimators import (
    Redge,
    RedgeCov,
    SparseMixer,
    SparseMixerV2,
    SparseMixerV2Star,
    TopKReinMax,
)
from ils_lightning.testing.formula import Recording


@form_of(TopKReinMax)
def top_k_reinmax(estimator: TopKReinMax, recordings: Sequence[Recording]) -> Tensor:
    def one(theta: Tensor, z: Tensor, g: Tensor) -> Tensor:
        subsets = list(itertools.combinations(range(len(theta)), estimator.size))
        ones = torch.stack([sum(one_hot(k, len(theta)) for k in subset) for subset in subsets])
        p = softmax(ones @ theta)
        d = ones - p @ ones
        own = z - p @ ones
        return ((p[:, None] * d).T @ d @ g + torch.outer(own, own) @ g) / 2

    return by_vector(recordings[-1], one)


@form_of(SparseMixer, SparseMixerV2, SparseMixerV2Star)
def sparse_mixer(estimator: SparseMixer, recordings: Sequence[Recording]) -> Tensor:
    factor = 1 if type(estimator) is SparseMixerV2 else 2
    (z,) = recordings[-1].draws
    g, estimate = recordings[-1].slope(z), torch.zeros_like(z[0])
    for b, i in each(recordings[-1]):
        p, k = softmax(recordings[-1].logits[b, i]), int(z[0, b, i].argmax())
        estimate[b, i] = factor * g[0, b, i, k] * J(p)[k]
    return estimate


def denoised(theta: Tensor, x: Tensor, guess: Callable[[Tensor, Tensor, float], Tensor], n: int, t_1: float) -> Tensor:
    """The last x0 of a path of n - 1 steps from noise x."""
    share = [k / (n - 2) if n > 2 else 0.0 for k in range(n - 1)]
    alphas = [1.0, *((1 - s) * (1 - t_1) + s * 1e-4 for s in share)]
    for t in range(n - 1, 0, -1):
        x0 = guess(theta, x, alphas[t])
        x = alphas[t - 1] * x0 + (1 - alphas[t - 1]) * (x - alphas[t] * x0) / (1 - alphas[t])
    return x0


def plain_guess(theta: Tensor, x: Tensor, alpha: float) -> Tensor:
    return softmax(theta + alpha * x / (1 - alpha) ** 2)


def matched_guess(theta: Tensor, x: Tensor, alpha: float) -> Tensor:
    pi, sigma = softmax(theta), 1 - alpha
    v = torch.stack([(q * (1 - q)).clamp(min=0.1) for q in pi])
    return softmax(theta + (alpha * x - alpha * sigma * pi - alpha**2 / 2) / (v * sigma**2))


@form_of(Redge, RedgeCov)
def redge(estimator: Redge, recordings: Sequence[Recording]) -> Tensor:
    last, matched = recordings[-1], isinstance(estimator, RedgeCov)
    (z,), u = last.draws, last.uniforms[0]
    g, estimate = last.slope(z), torch.zeros_like(last.logits)
    for b, i in each(last):
        noise = torch.erfinv(2 * u[b, i] - 1) * math.sqrt(2)
        theta = last.logits[b, i].clone().requires_grad_()
        pi = softmax(theta)
        x = pi + torch.sqrt((pi * (1 - pi)).clamp(min=0.1)) * noise if matched else noise
        x0 = denoised(theta, x, matched_guess if matched else plain_guess, estimator.steps, estimator.first_time)
        (estimate[b, i],) = torch.autograd.grad(x0 @ g[0, b, i], theta)
    return estimate
