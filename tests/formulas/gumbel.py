"""Estimators of Gumbel noise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from formulas import form_of
from formulas.pathwise import rein_max_of
from formulas.plain import J, each, exponential, gumbel, perturbed, softmax
from ils_lightning.estimators import (
    DecoupledStraightThroughGumbelSoftmax,
    GumbelRao,
    GumbelSoftmax,
    ReinMaxCV,
    ReinMaxRao,
    StraightThroughGumbelSoftmax,
)
from ils_lightning.testing.formula import Recording


@form_of(GumbelSoftmax, StraightThroughGumbelSoftmax)
def gumbel_softmax(estimator: GumbelSoftmax | StraightThroughGumbelSoftmax, recordings: Sequence[Recording]) -> Tensor:
    return decoupled_of(recordings[-1], 1.0, estimator.temperature, hard=estimator.hard)


@form_of(DecoupledStraightThroughGumbelSoftmax)
def decoupled(estimator: DecoupledStraightThroughGumbelSoftmax, recordings: Sequence[Recording]) -> Tensor:
    return decoupled_of(recordings[-1], estimator.forward_temperature, estimator.backward_temperature, hard=True)


def decoupled_of(last: Recording, forward: float, backward: float, hard: bool) -> Tensor:
    (u,) = last.uniforms
    y, z = torch.zeros_like(last.logits), torch.zeros_like(last.logits)
    for b, i in each(last):
        p = last.logits[b, i] / forward + gumbel(u[b, i])
        y[b, i] = softmax(p * forward / backward)
        z[b, i, int(p.argmax())] = 1
    g, estimate = last.slope((z if hard else y).unsqueeze(0))[0], torch.zeros_like(y)
    for b, i in each(last):
        estimate[b, i] = J(y[b, i]) @ g[b, i] / backward
    return estimate


def rao_of(theta: Tensor, z: Tensor, g: Tensor, E: Tensor, tau: float) -> Tensor:
    """Mean over the noise vectors E `[resamples, categories]`."""
    return sum(J(softmax(perturbed(theta, z, noise) / tau)) @ g / tau for noise in E) / len(E)


@form_of(GumbelRao, ReinMaxRao, ReinMaxCV)
def rao(estimator: GumbelRao | ReinMaxRao | ReinMaxCV, recordings: Sequence[Recording]) -> Tensor:
    last, tau = recordings[-1], estimator.temperature
    (z,), (_, *noise) = last.draws, last.uniforms
    g, estimate = last.slope(z), torch.zeros_like(last.logits)
    for b, i in each(last):
        theta, at = last.logits[b, i], (z[0, b, i], g[0, b, i])
        theta_d, E = torch.log((softmax(theta) + at[0]) / 2), [exponential(u[:, b, i]) for u in noise]
        if isinstance(estimator, GumbelRao):
            estimate[b, i] = rao_of(theta, *at, E[0], tau)
        elif isinstance(estimator, ReinMaxRao):
            estimate[b, i] = 2 * rao_of(theta_d, *at, E[0], tau) - J(softmax(theta)) @ at[1] / 2
        else:
            averaged, single = (rao_of(theta_d, *at, some, tau) for some in E)
            estimate[b, i] = rein_max_of(theta, *at) + estimator.weight * (averaged - single)
    return estimate
