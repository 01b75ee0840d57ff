"""Estimators of coupled draws, and of draws without replacement."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from formulas import form_of
from formulas.plain import each, exponential, scores, softmax, states, values
from ils_lightning.estimators import Arsm, DisArmTree, SumAndSample, UnorderedSet
from ils_lightning.testing.formula import Recording


@form_of(Arsm)
def arsm(estimator: Arsm, recordings: Sequence[Recording]) -> Tensor:
    del estimator
    last = recordings[-1]
    theta, (u,), (_, _, K) = last.logits, last.uniforms, last.logits.shape
    v, F = torch.zeros_like(theta), torch.zeros(len(theta), K, K, dtype=torch.float64)
    for b, i in each(last):
        v[b, i] = exponential(u[b, i]) / exponential(u[b, i]).sum()
    for c, j in itertools.product(range(K), repeat=2):
        z = torch.zeros_like(theta)
        for b, i in each(last):
            swapped = v[b, i].tolist()
            swapped[c], swapped[j] = swapped[j], swapped[c]
            z[b, i, int((torch.tensor(swapped, dtype=torch.float64) * (-theta[b, i]).exp()).argmin())] = 1
        F[:, c, j] = last.f(z[None])[0]
    estimate = torch.zeros_like(theta)
    for (b, i), c, j in itertools.product(each(last), range(K), range(K)):
        estimate[b, i, c] += (F[b, c, j] - F[b, :, j].mean()) * (1 / K - v[b, i, j])
    return estimate


def branch(theta: Tensor, leaves: range) -> tuple[range, range, float, Tensor]:
    """The halves of a node's leaves, p of going left, and d alpha / d theta."""
    left, right = leaves[: len(leaves) // 2], leaves[len(leaves) // 2 :]
    weights, slope = theta.exp().tolist(), torch.zeros_like(theta)
    mass = [sum(weights[k] for k in side if k < len(theta)) for side in (left, right)]
    for side, total, sign in ((left, mass[0], 1), (right, mass[1], -1)):
        for k in side:
            if k < len(theta):
                slope[k] = sign * weights[k] / total
    return left, right, mass[0] / sum(mass), slope


def walk(theta: Tensor, noise: list[tuple[float, float]]) -> tuple[int, int, Tensor]:
    """Both leaves reached, and the sum over nodes of weight times d alpha / d theta; `noise` by level."""
    here = there = range(1 << (len(theta) - 1).bit_length())
    total = torch.zeros_like(theta)
    for u, other in noise:
        left, right, p, slope = branch(theta, here)
        left_there, right_there, p_there, slope_there = branch(theta, there)
        together, b = here == there, 1 - u < p
        b_there = (u if together else other) < p_there
        if not together:
            total = total + (b - p) * slope - (b_there - p_there) * slope_there
        elif b != b_there:
            total = total + (-1) ** int(b_there) * max(p, 1 - p) * slope
        here, there = left if b else right, left_there if b_there else right_there
    return here[0], there[0], total


@form_of(DisArmTree)
def dis_arm_tree(estimator: DisArmTree, recordings: Sequence[Recording]) -> Tensor:
    del estimator
    last = recordings[-1]
    z, slope = torch.zeros(2, *last.logits.shape, dtype=torch.float64), torch.zeros_like(last.logits)
    for b, i in each(last):
        u = [float(x[b, i]) for x in last.uniforms]
        first, second, slope[b, i] = walk(last.logits[b, i], list(zip(u[0::2], u[1::2], strict=True)))
        z[0, b, i, first] = z[1, b, i, second] = 1
    f = values(last, z)
    return torch.stack([(f[0][b] - f[1][b]) / 2 * slope[b] for b in range(len(slope))])


def probability(theta: Tensor, z: Tensor) -> float:
    """p(z) of one row, `[latents, categories]`."""
    p = 1.0
    for t, x in zip(theta, z, strict=True):
        p *= float(softmax(t) @ x)
    return p


def set_probability(p: list[float], gone: float) -> float:
    """Of drawing exactly these without replacement from what is left when mass `gone` is: sum over orders."""
    total = 0.0
    for order in itertools.permutations(p):
        product, drawn = 1.0, gone
        for q in order:
            product, drawn = product * q / (1 - drawn), drawn + q
        total += product
    return total


@form_of(UnorderedSet)
def unordered_set(estimator: UnorderedSet, recordings: Sequence[Recording]) -> Tensor:
    last = recordings[-1]
    (z,) = last.draws
    f, d, estimate, members = values(last, z), scores(last, z), torch.zeros_like(last.logits), range(len(z))
    for b in range(len(estimate)):
        p = [probability(last.logits[b], z[s, b]) for s in members]

        def of_set(without: tuple[int, ...], p: list[float] = p) -> float:
            return set_probability([p[s] for s in members if s not in without], sum(p[s] for s in without))

        for s in members:
            B = p[s] * f[s][b]
            for t in (t for t in members if t != s):
                B += p[t] * of_set((s, t)) / of_set((s,)) * f[t][b]
            advantage = f[s][b] - B if estimator.baseline else f[s][b]
            estimate[b] += p[s] * of_set((s,)) / of_set(()) * advantage * d[s, b]
    return estimate


@form_of(SumAndSample)
def sum_and_sample(estimator: SumAndSample, recordings: Sequence[Recording]) -> Tensor:
    last = recordings[-1]
    *_, latents, categories = last.logits.shape
    every, estimate = states(latents, categories), torch.zeros_like(last.logits)
    number = min(estimator.largest, len(every) - 1)
    for b, theta in enumerate(last.logits):
        by_rank = sorted(every, key=lambda z, theta=theta: -probability(theta, z))
        chosen = [(probability(theta, z), z) for z in by_rank[:number]]
        chosen.append((1 - sum(p for p, _ in chosen), last.draws[0][-1, b]))
        for weight, z in chosen:
            at = last.draws[0][:1].clone()
            at[0, b] = z
            score = torch.stack([x - softmax(t) for x, t in zip(z, theta, strict=True)])
            estimate[b] += weight * values(last, at)[0][b] * score
    return estimate
