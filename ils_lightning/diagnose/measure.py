"""Bias, variance, cosines and cost of one estimator on one problem, from blocks of its estimates.

Vectors hold all components of all rows of the batch. With estimates e of mean m, the target G and n estimates averaged
    relative bias = |m - G| / |G|,   relative variance = E |e - m|^2 / |G|^2 = (E |e - G|^2 - |m - G|^2) / |G|^2
    cosine = m.G / |m||G|,   that of n = E cos(mean of n estimates, G),   SNR = |m| / sqrt(E |e - m|^2)
where |m - G|^2 and |m|^2 have taken off what the noise of the mean adds to them.
"""

import time
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from ils_lightning.diagnose import replicates
from ils_lightning.diagnose.intervals import Interval, length_interval, mean_interval, noise_of, positive_interval
from ils_lightning.diagnose.replicates import Plan
from ils_lightning.diagnose.target import Target
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator, Loss

ROUNDING = 4
"""Units of rounding of the logits' type by which intervals of the bias are widened."""
TIMED = 5


@dataclass
class Measured:
    """What was measured, intervals being of 95 per cent; bias and variance are relative to the gradient."""

    bias: Interval
    variance: Interval
    cosine: float
    cosine_of_one: Interval
    cosines: dict[int, float]
    length: float
    snr: float
    value_bias: Interval
    draws: int


class NotFiniteError(Refusal):
    """An estimate that is not finite."""


def perfect() -> Measured:
    """What there is to say of the gradient itself."""
    none, all_of_it = Interval(0.0, 0.0, 0.0), Interval(1.0, 1.0, 1.0)
    return Measured(none, none, 1.0, all_of_it, {1: 1.0}, 1.0, float("inf"), none, 1)


@torch.no_grad()
def measure(estimator: Estimator, logits: Tensor, f: Loss, target: Target, plan: Plan) -> Measured:
    """Measures `plan.draws` estimates.

    Raises:
        NotFiniteError: when one of them is not finite.
    """
    unit = (target.gradient / target.gradient.norm()).to(logits.dtype)
    means, squares, cosines, losses = [], [], [], []
    for loss, estimate in replicates.blocks(estimator, logits, f, plan):
        e = estimate.flatten(2)  # [blocks, width, components]
        means.append(e.mean(dim=1, dtype=torch.float64))
        squares.append((e - target.gradient.to(e.dtype)).square().sum(dim=-1, dtype=torch.float64).mean(dim=1))
        cosines.append(_of_averages(e, unit))
        losses.append(loss.double().flatten(1).mean(dim=1))
    mean = torch.cat(means)
    if not torch.isfinite(mean).all():
        raise NotFiniteError("its estimates are not all finite")
    rounding = ROUNDING * torch.finfo(logits.dtype).eps
    return _summary(mean, torch.cat(squares), torch.cat(cosines), torch.cat(losses), target, plan, rounding)


def _of_averages(e: Tensor, unit: Tensor) -> Tensor:
    """Mean cosine with `unit` of averages of 1, 2, 4 ... of estimates `[blocks, width, ...]`: `[blocks, levels]`."""
    found = [_cosine(e, unit).mean(dim=1)]
    while e.shape[1] > 1:
        e = e[:, : e.shape[1] // 2 * 2].unflatten(1, (-1, 2)).mean(dim=2)
        found.append(_cosine(e, unit).mean(dim=1))
    return torch.stack(found, dim=1).double()


def _cosine(e: Tensor, unit: Tensor) -> Tensor:
    norm = e.norm(dim=-1)
    return torch.where(norm > 0, (e @ unit) / norm, 0)


def _summary(
    mean: Tensor, square: Tensor, cosines: Tensor, loss: Tensor, target: Target, plan: Plan, rounding: float
) -> Measured:
    G, size = target.gradient, target.square
    errors = mean - G
    error = errors.mean(dim=0)
    noise = noise_of(errors, target.noise)
    within = noise_of(errors)  # the noise of the estimates alone
    bias = length_interval(error.square().sum().item(), noise).scaled(size**-0.5)
    variances = square - 2 * errors @ error + error.square().sum()
    # the blocks' own mean took up tr V/J of their variance
    variance = positive_interval(variances).scaled((1 + within.trace / max(variances.mean().item(), 1e-300)) / size)
    length = max(0.0, mean.mean(dim=0).square().sum().item() - within.trace)
    cosine = (mean.mean(dim=0) @ G).item() / max(length * size, 1e-300) ** 0.5
    value = mean_interval(loss - target.value)
    return Measured(
        Interval(bias.value, max(0.0, bias.low - rounding), bias.high + rounding),
        variance,
        max(-1.0, min(1.0, cosine)),
        mean_interval(cosines[:, 0]),
        _curve(cosines, mean, G, plan.width),
        (length / size) ** 0.5,
        (length / (variance.value * size)) ** 0.5 if variance.value > 0 else float("inf"),
        value,
        plan.draws,
    )


def _curve(cosines: Tensor, mean: Tensor, G: Tensor, width: int) -> dict[int, float]:
    """Expected cosine of the average of n estimates: of powers of 2 within blocks, then of 1, 2, 4 ... 16 blocks."""
    found = {2**level: value.item() for level, value in enumerate(cosines.mean(dim=0))}
    unit, blocks = G / G.norm(), 1
    while len(mean) >= 8:
        found[width * blocks] = _cosine(mean, unit).mean().item()
        mean, blocks = mean[: len(mean) // 2 * 2].unflatten(0, (-1, 2)).mean(dim=1), 2 * blocks
    return found


def seconds_of_one(estimator: Estimator, logits: Tensor, f: Loss) -> float:
    """The shortest of a few timed estimates of the batch."""
    trial, times = deepcopy(estimator).eval(), []
    for _ in range(TIMED):
        start = _now(logits)
        trial.estimate(logits, f)
        times.append(_now(logits) - start)
    return min(times)


def _now(logits: Tensor) -> float:
    """Seconds of the process's own work on a CPU, which do not depend on what else the machine does; else the clock."""
    if logits.device.type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize(logits.device)
    return time.perf_counter()
