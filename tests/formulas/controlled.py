"""REINFORCE with control variates: relaxed draws, models of f that gradients build."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from formulas import form_of
from formulas.family import diagonals
from formulas.plain import J, each, exponential, perturbed, scores, softmax, values
from ils_lightning.estimators import ILSLeaveOneOut, ILSResidual, Rebar, Relax
from ils_lightning.testing.formula import Recording


def noisy(theta: Tensor, z: Tensor, E: Tensor) -> Tensor:
    """`perturbed` of every vector `[rows, latents, categories]`."""
    vectors = [perturbed(*each) for rows in zip(theta, z, E, strict=True) for each in zip(*rows, strict=True)]
    return torch.stack(vectors).view_as(theta)


def relaxed(last: Recording, samples: int, eta: float, control: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean over draws of [f(z) - eta c(zt)] d + eta dc(zr) - eta dc(zt)."""
    z, (_, tied) = last.draws[0], last.uniforms
    loss, d, estimate = values(last, z), scores(last, z), torch.zeros_like(last.logits)
    for s in range(samples):
        theta = last.logits.clone().requires_grad_()
        zt = noisy(theta, z[s], exponential(tied[s]))
        zr = zt.detach().requires_grad_()
        c = control(zt)
        (pathwise,), (conditional,) = torch.autograd.grad(control(zr).sum(), zr), torch.autograd.grad(c.sum(), theta)
        for b in range(len(d[s])):
            estimate[b] += (loss[s][b] - eta * c[b].item()) * d[s, b] + eta * (pathwise[b] - conditional[b])
    return estimate / samples


def at_temperature(last: Recording, y: Tensor, tau: float) -> Tensor:
    """f(softmax(y / tau)) `[rows]`."""
    soft = torch.stack([torch.stack([softmax(x / tau) for x in row]) for row in y])
    return last.f(soft.unsqueeze(0))[0]


@form_of(Rebar)
def rebar(estimator: Rebar, recordings: Sequence[Recording]) -> Tensor:
    last, tau = recordings[-1], estimator.log_temperature.exp().item()
    return relaxed(last, estimator.samples, estimator.eta.item(), lambda y: at_temperature(last, y, tau))


@form_of(Relax)
def relax(estimator: Relax, recordings: Sequence[Recording]) -> Tensor:
    last = recordings[-1]

    def control(y: Tensor) -> Tensor:
        inputs = [torch.cat([x - x.exp().sum().log() for x in row]) for row in y]
        c = torch.stack([estimator.critic(x) for x in inputs])
        return c + at_temperature(last, y, estimator.log_temperature.exp().item()) if estimator.relaxed_loss else c

    return relaxed(last, estimator.samples, 1.0, control)


def curvature(decay: float, earlier: Sequence[Recording], like: Tensor) -> Tensor:
    """H `[latents, categories]` from all rows and samples."""
    steps = []
    for recording in earlier:
        (z,) = recording.draws
        g, theta = recording.slope(z), recording.logits
        at = [(s, b, i) for s in range(len(z)) for b, i in each(recording)]
        steps.append([(i, softmax(theta[b, i]), z[s, b, i], g[s, b, i]) for s, b, i in at])
    return diagonals(decay, *like.shape[1:], steps)


def plain_and_explained(recording: Recording, h: Tensor) -> tuple[Tensor, Tensor]:
    """LeaveOneOut's estimate, and the part of it that the models m_j explain less its mean, both like the logits."""
    (z,) = recording.draws
    S = len(z)
    loss, g, d = values(recording, z), recording.slope(z), scores(recording, z)
    plain, explained = torch.zeros_like(recording.logits), torch.zeros_like(recording.logits)
    for b in range(len(plain)):
        a = [g[j, b] - h * z[j, b] + h / 2 for j in range(S)]
        pairs = [(i, j) for i in range(S) for j in range(S) if i != j]
        for i, j in pairs:
            plain[b] += (loss[i][b] - loss[j][b]) * d[i, b] / len(pairs)
            mean = torch.stack([J(softmax(t)) @ x for t, x in zip(recording.logits[b], a[j], strict=True)])
            explained[b] += (float((a[j] * (z[i, b] - z[j, b])).sum()) * d[i, b] - mean) / len(pairs)
    return plain, explained


@form_of(ILSLeaveOneOut)
def ils_leave_one_out(estimator: ILSLeaveOneOut, recordings: Sequence[Recording]) -> Tensor:
    *earlier, last = recordings
    beta, latents = estimator.curvature.decay, last.logits.shape[1]
    product, square, noise = ([0.0] * latents for _ in range(3))
    for number, recording in enumerate(earlier):
        plain, explained = plain_and_explained(recording, curvature(beta, earlier[:number], last.logits))
        centred = plain - plain.mean(dim=0)
        for i in range(latents):
            found = [float(e @ x) for e, x in zip(centred[:, i], explained[:, i], strict=True)]
            product[i] = beta * product[i] + sum(found)
            square[i] = beta * square[i] + float(explained[:, i].square().sum())
            noise[i] = beta * noise[i] + sum(x * x for x in found)
    plain, explained = plain_and_explained(last, curvature(beta, earlier, last.logits))
    estimate = plain.clone()
    for i in range(latents):
        if square[i] > 0:
            kappa = min(1.0, max(0.0, 1 - noise[i] / product[i] ** 2) * product[i] / square[i])
            estimate[:, i] -= kappa * explained[:, i]
    return estimate


@form_of(ILSResidual)
def ils_residual(estimator: ILSResidual, recordings: Sequence[Recording]) -> Tensor:
    beta, like = estimator.decay, recordings[0].logits
    count = total = covariance = square = 0.0
    weighted = torch.zeros(like.shape[1:], dtype=torch.float64)
    for number, recording in enumerate(recordings):
        (z,) = recording.draws
        (loss,), (g,), (d,) = values(recording, z), recording.slope(z), scores(recording, z)
        h = curvature(estimator.curvature.decay, recordings[:number], like)
        a, c = (weighted / count, total / count) if count else (weighted, 0.0)
        kappa = min(max(covariance / square, 0.0), 1.0) if square else 0.0
        explained = [float((a * x).sum()) for x in d]
        estimate = torch.zeros_like(like)
        for b, i in each(recording):
            estimate[b, i] = (loss[b] - c - kappa * explained[b]) * d[b, i]
            estimate[b, i] += kappa * J(softmax(recording.logits[b, i])) @ a[i]
        covariance, square = beta * covariance, beta * square + sum(x * x for x in explained)
        covariance += sum((f - c) * x for f, x in zip(loss, explained, strict=True)) if count else 0.0
        count, total, weighted = beta * count + len(loss), beta * total + sum(loss), beta * weighted
        for b, i in each(recording):
            weighted[i] += g[b, i] - g[b, i].mean() - h[i] * z[0, b, i] + h[i] / 2
    return estimate
