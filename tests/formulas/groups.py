"""Several draws of a row against each other, and all categories of one latent."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from formulas import form_of
from formulas.plain import J, each, one_hot, scores, softmax, values
from ils_lightning.estimators import Daps, DrGrpo, Grpo, LocalExpectation
from ils_lightning.testing.formula import Recording


@form_of(Grpo, DrGrpo)
def grpo(estimator: Grpo, recordings: Sequence[Recording]) -> Tensor:
    last, S = recordings[-1], estimator.samples
    (z,) = last.draws
    loss, d, estimate = values(last, z), scores(last, z), torch.zeros_like(last.logits)
    for b in range(len(last.logits)):
        costs = [loss[s][b] for s in range(S)]
        mean = sum(costs) / S
        spread = math.sqrt(sum((c - mean) ** 2 for c in costs) / (S - 1)) + estimator.eps
        for s in range(S):
            advantage = costs[s] - mean if isinstance(estimator, DrGrpo) else (costs[s] - mean) / spread
            estimate[b] += advantage * d[s, b] / S
    return estimate


@form_of(Daps)
def daps(estimator: Daps, recordings: Sequence[Recording]) -> Tensor:
    last, S = recordings[-1], estimator.samples
    (z,) = last.draws
    loss, d, estimate = values(last, z), scores(last, z), torch.zeros_like(last.logits)

    def weights(b: int, eta: float) -> list[float]:
        found = [math.exp((min(loss[i][b] for i in range(S)) - loss[s][b]) / eta) for s in range(S)]
        return [w / sum(found) for w in found]

    for b in range(len(last.logits)):
        low, high = 1e-6, 1e6
        for _ in range(200):
            middle = math.sqrt(low * high)
            share = 1 / sum(w**2 for w in weights(b, middle)) / S
            low, high = (middle, high) if share < estimator.effective else (low, middle)
        for s, w in enumerate(weights(b, high)):
            estimate[b] -= w * d[s, b]
    return estimate


@form_of(LocalExpectation)
def local_expectation(estimator: LocalExpectation, recordings: Sequence[Recording]) -> Tensor:
    last, S = recordings[-1], estimator.samples
    z, estimate = last.draws[0][:S], torch.zeros_like(last.logits)
    categories = z.shape[-1]
    for s in range(S):
        for b, i in each(last):
            costs = []
            for k in range(categories):
                changed = z[s : s + 1].clone()
                changed[0, b, i] = one_hot(k, categories)
                costs.append(float(last.f(changed)[0, b]))
            estimate[b, i] += J(softmax(last.logits[b, i])) @ torch.tensor(costs, dtype=torch.float64) / S
    return estimate
