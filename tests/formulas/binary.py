"""Estimators of two categories: b = 1 is the first of them, t the difference of the logits."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from formulas import form_of
from formulas.plain import each, values
from ils_lightning.estimators import Arm, Arms, BitFlip, DisArm, DoubleControlVariate, Rodeo
from ils_lightning.testing.formula import Recording


def p_of(recording: Recording) -> Tensor:
    """Sigmoid(t) `[rows, latents]`."""
    return 1 / (1 + (recording.logits[..., 1] - recording.logits[..., 0]).exp())


def losses(recording: Recording, b: Tensor) -> list[list[float]]:
    """F of b `[samples, rows, latents]`."""
    return values(recording, torch.stack([b, 1 - b], dim=-1).double())


def slopes(recording: Recording, b: Tensor) -> Tensor:
    g = recording.slope(torch.stack([b, 1 - b], dim=-1).double())
    return g[..., 0] - g[..., 1]


def to_logits(t: Tensor) -> Tensor:
    return torch.stack([t, -t], dim=-1)


@form_of(Arm, DisArm)
def antithetic(estimator: Arm | DisArm, recordings: Sequence[Recording]) -> Tensor:
    last = recordings[-1]
    (u,), p = last.uniforms, p_of(last)
    b, other = (u > 1 - p).double(), (u < p).double()
    f, estimate = losses(last, torch.stack([b, other])), torch.zeros_like(p)
    for row, i in each(last):
        difference = f[0][row] - f[1][row]
        if isinstance(estimator, Arm):
            estimate[row, i] = difference * (u[row, i] - 0.5)
        elif b[row, i] != other[row, i]:
            sign = 1 if other[row, i] == 0 else -1
            estimate[row, i] = difference / 2 * sign * max(p[row, i], 1 - p[row, i])
    return to_logits(estimate)


@form_of(Arms)
def arms(estimator: Arms, recordings: Sequence[Recording]) -> Tensor:
    last, S = recordings[-1], estimator.samples
    b, p = last.draws[0][..., 0], p_of(last)
    f, estimate = losses(last, b), torch.zeros_like(p)

    def h(q: float) -> float:
        return max(2 * q ** (1 / (S - 1)) - 1, 0.0) ** (S - 1)

    for row, i in each(last):
        q = float(p[row, i])
        both = h(q) if q < 0.5 else 2 * q - 1 + h(1 - q)
        for s in range(S):
            others = sum(f[o][row] for o in range(S) if o != s) / (S - 1)
            estimate[row, i] += q * (1 - q) / (q - both) / S * (f[s][row] - others) * (b[s, row, i] - q)
    return to_logits(estimate)


@form_of(BitFlip)
def bit_flip(estimator: BitFlip, recordings: Sequence[Recording]) -> Tensor:
    del estimator
    last = recordings[-1]
    b, p, D = last.draws[0][0, ..., 0], p_of(last), last.logits.shape[1]
    estimate = torch.zeros_like(p)
    for row in range(len(p)):
        i = int(last.uniforms[0][row] * D)
        one, zero = b.clone(), b.clone()
        one[row, i], zero[row, i] = 1, 0
        f = losses(last, torch.stack([one, zero]))
        estimate[row, i] = D * p[row, i] * (1 - p[row, i]) * (f[0][row] - f[1][row])
    return to_logits(estimate)


@form_of(DoubleControlVariate)
def double_control_variate(estimator: DoubleControlVariate, recordings: Sequence[Recording]) -> Tensor:
    last, S, a = recordings[-1], estimator.samples, estimator.a.item()
    b, p = last.draws[0][..., 0], p_of(last)
    f, G, estimate = losses(last, b), slopes(last, b), torch.zeros_like(p)
    for row in range(len(p)):
        F = []
        for k in range(S):
            left_out = sum(G[j, row] for j in range(S) if j != k) / (S - 1)
            F.append(f[k][row] + a * float(left_out @ (b[k, row] - p[row])))
        for k in range(S):
            others = sum(F[j] for j in range(S) if j != k) / (S - 1)
            estimate[row] += (F[k] - others) * (b[k, row] - p[row]) / S
        estimate[row] -= a * sum(G[k, row] for k in range(S)) / S * p[row] * (1 - p[row])
    return to_logits(estimate)


@form_of(Rodeo)
def rodeo(estimator: Rodeo, recordings: Sequence[Recording]) -> Tensor:
    last, S = recordings[-1], estimator.samples
    b, p = last.draws[0][..., 0], p_of(last)
    f, G, estimate = losses(last, b), slopes(last, b), torch.zeros_like(p)
    for row, k in itertools.product(range(len(p)), range(S)):
        correction = 0.0
        for j in range(S):
            if j != k:
                correction += (f[j][row] + estimator.a.item() * float(stein(estimator, f, G, b, p, row, j)[0])) / (
                    S - 1
                )
        control = stein(estimator, f, G, b, p, row, k)[1:]
        estimate[row] += ((f[k][row] - correction) * (b[k, row] - p[row]) + estimator.beta.item() * control) / S
    return to_logits(estimate)


def stein(estimator: Rodeo, f: list[list[float]], G: Tensor, b: Tensor, p: Tensor, row: int, k: int) -> Tensor:
    """(A h)(b_k) of the numbers h = (h1_k(y), h2_k(y) (y - p)): mean over i of w_i [h(b with i flipped) - h(b)]."""
    others = [j for j in range(len(b)) if j != k]
    mean_slope = sum(G[j, row] for j in others) / len(others)
    offset = sum(float(G[j, row] @ b[j, row]) for j in others) / len(others)
    mean_loss = sum(f[j][row] for j in others) / len(others)

    def h(y: Tensor) -> Tensor:
        inputs = torch.tensor([float(mean_slope @ y) - offset, mean_loss], dtype=torch.float64)
        h1, h2 = estimator.net(inputs).detach()
        return torch.cat([h1[None], h2 * (y - p[row])])

    total = torch.zeros(1 + len(p[row]), dtype=torch.float64)
    for i in range(len(p[row])):
        flipped = b[k, row].clone()
        flipped[i] = 1 - flipped[i]
        w = p[row, i] if b[k, row, i] == 0 else 1 - p[row, i]
        total += w * (h(flipped) - h(b[k, row])) / len(p[row])
    return total
