"""Intermediate Loss Sampling as published, and ReinMax with coefficients left out one row."""

from collections.abc import Sequence

import torch
from torch import Tensor

from formulas import form_of
from formulas.pathwise import rein_max_of
from formulas.plain import by_vector, each, softmax
from ils_lightning.estimators import ILS, ILSCV, KullbackLeibler
from ils_lightning.testing.formula import Recording


def simplex(v: Tensor) -> Tensor:
    """Euclidean projection (Duchi et al.): the largest support that leaves every entry of it positive."""
    ordered = sorted(v.tolist(), reverse=True)
    shifts = [(sum(ordered[:size]) - 1) / size for size in range(1, len(v) + 1)]
    shift = next(t for t, smallest in reversed(list(zip(shifts, ordered, strict=True))) if smallest > t)
    return torch.tensor([max(x - shift, 0.0) for x in v.tolist()], dtype=torch.float64)


def normalized(v: Tensor, how: str) -> Tensor:
    weights = v.clamp(min=0) if how == "clip" else v
    return simplex(v) if how == "simplex" or weights.sum() < 1e-3 else weights / weights.sum()


@form_of(ILS)
def ils(estimator: ILS, recordings: Sequence[Recording]) -> Tensor:
    def one(theta: Tensor, z: Tensor, g: Tensor) -> Tensor:
        pi_d = normalized(z - estimator.step_size * (g - g @ z), estimator.normalizer)
        theta = theta.clone().requires_grad_()
        pi = softmax(theta)
        if estimator.reading == "none":
            v = -pi_d / (pi.detach() + 1e-7)
            return v - v.mean()
        if isinstance(estimator.intermediate_loss, KullbackLeibler):
            loss = -sum(weight * p.log() for weight, p in zip(pi_d, pi, strict=True))
        else:
            loss = 2 - 2 * sum((weight * p).sqrt() for weight, p in zip(pi_d, pi, strict=True) if weight > 0)
        return torch.autograd.grad(loss, theta)[0]

    return by_vector(recordings[-1], one)


@form_of(ILSCV)
def ils_cv(estimator: ILSCV, recordings: Sequence[Recording]) -> Tensor:
    last = recordings[-1]
    R = by_vector(last, lambda theta, z, g: rein_max_of(theta, z, g, estimator.temperature))
    d, c, (rows, _, categories) = torch.zeros_like(R), torch.zeros_like(R), R.shape
    for b, i in each(last):
        d[b, i] = last.draws[0][0, b, i] - softmax(last.logits[b, i])
    for b, i in each(last):
        for k in range(categories):
            others = [(float(R[o, i, k]), float(d[o, i, k])) for o in range(rows) if o != b]
            mean = sum(r for r, _ in others) / len(others)
            A = sum(r * x for r, x in others) - mean * sum(x for _, x in others)
            shrink = max(0.0, 1 - sum((r * x) ** 2 for r, x in others) / A**2) if A else 0.0
            c[b, i, k] = shrink * A / sum(x * x for _, x in others) * d[b, i, k]
    estimate = torch.zeros_like(R)
    for b, i in each(last):
        estimate[b, i] = R[b, i] - c[b, i] + softmax(last.logits[b, i]) * c[b, i].sum()
    return estimate
