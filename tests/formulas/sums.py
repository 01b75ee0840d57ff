"""Estimators that enumerate, and the mean of several."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from formulas import FORMS, form_of
from formulas.ils import simplex
from formulas.plain import J, softmax, states
from ils_lightning.estimators import Average, EntmaxMarginal, Exact, LatinHypercube, SparsemaxMarginal
from ils_lightning.testing.formula import Recording


def marginalised(
    last: Recording, distribution: Callable[[Tensor], Tensor], jacobian: Callable[[Tensor], Tensor]
) -> Tensor:
    """Gradient of sum_z q(z) f(z), q a product over latents: each latent's Jacobian times the derivative in q."""
    rows, latents, categories = last.logits.shape
    estimate = torch.zeros_like(last.logits)
    every = states(latents, categories)
    losses = [last.f(z.expand(1, rows, -1, -1))[0] for z in every]
    for b in range(rows):
        q = [distribution(theta) for theta in last.logits[b]]
        for i in range(latents):
            slope = torch.zeros(categories, dtype=torch.float64)
            for z, loss in zip(every, losses, strict=True):
                others = [float(q[m] @ z[m]) for m in range(latents) if m != i]
                slope += math.prod(others) * loss[b] * z[i]
            estimate[b, i] = jacobian(q[i]) @ slope
    return estimate


@form_of(Exact)
def exact(estimator: Exact, recordings: Sequence[Recording]) -> Tensor:
    del estimator
    return marginalised(recordings[-1], softmax, J)


def entmax(theta: Tensor, alpha: float) -> Tensor:
    """max(0, (alpha - 1) theta - c)^(1 / (alpha - 1)), its sum brought to one by bisection."""
    x = (alpha - 1) * theta
    low, high = float(x.max()) - 1, float(x.max())
    for _ in range(100):
        c = (low + high) / 2
        low, high = (c, high) if (x - c).clamp(min=0).pow(1 / (alpha - 1)).sum() > 1 else (low, c)
    return (x - low).clamp(min=0) ** (1 / (alpha - 1))


def sparse_jacobian(xi: Tensor, alpha: float) -> Tensor:
    s = torch.tensor([x ** (2 - alpha) if x > 0 else 0.0 for x in xi.tolist()], dtype=torch.float64)
    return torch.diag(s) - torch.outer(s, s) / s.sum()


@form_of(SparsemaxMarginal)
def sparsemax_marginal(estimator: SparsemaxMarginal, recordings: Sequence[Recording]) -> Tensor:
    del estimator
    return marginalised(recordings[-1], simplex, partial(sparse_jacobian, alpha=2.0))


@form_of(EntmaxMarginal)
def entmax_marginal(estimator: EntmaxMarginal, recordings: Sequence[Recording]) -> Tensor:
    alpha = estimator.alpha
    return marginalised(recordings[-1], partial(entmax, alpha=alpha), partial(sparse_jacobian, alpha=alpha))


@form_of(Average)
def average(estimator: Average, recordings: Sequence[Recording]) -> Tensor:
    """For an inner estimator that calls f once, at one draw."""
    last = recordings[-1]
    (z,) = last.draws
    copies = [dataclasses.replace(last, draws=[one[None]]) for one in z]
    return sum(FORMS[type(estimator.estimator)](estimator.estimator, [one]) for one in copies) / len(copies)


@form_of(LatinHypercube)
def latin_hypercube(estimator: LatinHypercube, recordings: Sequence[Recording]) -> Tensor:
    """For an inner estimator that calls f once; its draws are inverted anew, one latent of one row at a time."""
    samples = estimator.samples
    rows = [_of_copies(one, samples) for one in recordings]
    mean = FORMS[type(estimator.estimator)](estimator.estimator, rows).unflatten(0, (-1, samples)).mean(dim=1)
    order, within = recordings[-1].uniforms
    (z,) = recordings[-1].draws
    for row, latent in itertools.product(range(z.shape[1]), range(z.shape[2])):
        cumulative = recordings[-1].logits[row, latent].softmax(dim=-1).cumsum(dim=-1)
        for place, bin_ in enumerate(order[row, :, latent].argsort()):
            u = (bin_ + within[row, place, latent]) / samples
            assert z[place, row, latent].argmax() == (cumulative <= u).sum()
    return mean


def _of_copies(one: Recording, samples: int) -> Recording:
    """The recording with each draw of a row as a row of its own."""

    def f(z: Tensor) -> Tensor:
        return one.f(z[0].unflatten(0, (-1, samples)).movedim(1, 0)).movedim(0, 1).reshape(1, -1)

    draws = [z.movedim(0, 1).flatten(0, 1)[None] for z in one.draws]
    return dataclasses.replace(one, logits=one.logits.repeat_interleave(samples, dim=0), f=f, draws=draws)
