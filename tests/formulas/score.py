"""Score-function estimators and their baselines."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from formulas import form_of
from formulas.plain import J, each, scores, softmax, values
from ils_lightning.estimators import LeaveOneOut, MovingAverage, MuProp, Reinforce, VarGrad, Vimco
from ils_lightning.testing.formula import Recording


def moving_average(decay: float, earlier: Sequence[Recording]) -> float:
    """The weighted mean of the steps' mean losses, the latest with weight 1, zero before the first."""
    means = [float(recording.f(recording.draws[0]).mean()) for recording in earlier]
    weights = [decay ** (len(means) - 1 - number) for number in range(len(means))]
    return sum(w * m for w, m in zip(weights, means, strict=True)) / sum(weights) if means else 0.0


@form_of(Reinforce)
def reinforce(estimator: Reinforce, recordings: Sequence[Recording]) -> Tensor:
    *earlier, last = recordings
    (z,) = last.draws
    loss, d, estimate = values(last, z), scores(last, z), torch.zeros_like(last.logits)
    for b in range(len(last.logits)):
        baseline = 0.0
        if isinstance(estimator.baseline, MovingAverage):
            baseline = moving_average(estimator.baseline.decay, earlier)
        elif estimator.baseline is not None:
            pi = torch.cat([softmax(theta) for theta in last.logits[b]])
            baseline = estimator.baseline.network(pi).item()
        for s in range(len(z)):
            estimate[b] += (loss[s][b] - baseline) * d[s, b] / len(z)
    return estimate


@form_of(LeaveOneOut, VarGrad)
def leave_one_out(estimator: LeaveOneOut | VarGrad, recordings: Sequence[Recording]) -> Tensor:
    """As a sum over pairs of draws: 1/(S (S - 1)) sum_{i < j} (f_i - f_j)(z_i - z_j)."""
    last = recordings[-1]
    (z,), S = last.draws, estimator.samples
    loss, estimate = values(last, z), torch.zeros_like(last.logits)
    for b in range(len(last.logits)):
        for i, j in itertools.combinations(range(S), 2):
            estimate[b] += (loss[i][b] - loss[j][b]) * (z[i, b] - z[j, b]) / (S * (S - 1))
    return estimate


@form_of(Vimco)
def vimco(estimator: Vimco, recordings: Sequence[Recording]) -> Tensor:
    last, S = recordings[-1], estimator.samples
    (z,) = last.draws
    loss, d, estimate = values(last, z), scores(last, z), torch.zeros_like(last.logits)
    for b in range(len(last.logits)):
        log_weights = [-loss[s][b] for s in range(S)]
        L = math.log(sum(math.exp(w) for w in log_weights) / S)
        for i in range(S):
            others = [w for j, w in enumerate(log_weights) if j != i]
            replaced = [*others, sum(others) / len(others)]
            estimate[b] -= (L - math.log(sum(math.exp(w) for w in replaced) / S)) * d[i, b]
    return estimate


@form_of(MuProp)
def mu_prop(estimator: MuProp, recordings: Sequence[Recording]) -> Tensor:
    last, eta = recordings[-1], estimator.eta
    z, _ = last.draws
    pi = torch.zeros_like(last.logits)
    for b, i in each(last):
        pi[b, i] = softmax(last.logits[b, i])
    loss, (mean,), (slope,) = values(last, z), values(last, pi[None]), last.slope(pi[None])
    d, estimate = scores(last, z), torch.zeros_like(pi)
    for b, i in each(last):
        for s in range(len(z)):
            expansion = mean[b] + float((slope[b] * d[s, b]).sum())
            estimate[b, i] += (loss[s][b] - eta * expansion) * d[s, b, i] / len(z)
        estimate[b, i] += eta * J(pi[b, i]) @ slope[b, i]
    return estimate
