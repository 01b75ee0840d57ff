"""The curved members of the family: state recomputed from the recordings, means over the draw by enumeration."""

from collections.abc import Sequence

import torch
from torch import Tensor

from formulas import form_of
from formulas.plain import J, each, softmax, vertices
from ils_lightning.estimators import ILSDiagonal, ILSIsotropic, ILSNewton, ILSTemperedDiagonal
from ils_lightning.estimators.family import Curved
from ils_lightning.testing.formula import Recording


def step(estimator: Curved, theta: Tensor, z: Tensor) -> Tensor:
    """The matrix R of the step at a draw: M_s, or ReinMax's at a temperature."""
    p, d = softmax(theta), z - softmax(theta)
    if hasattr(estimator, "temperature"):
        m = softmax(theta / estimator.temperature) + z
        return torch.diag(m) - torch.outer(m, m) / 2 - J(p) / 2
    s = estimator.base
    return (J(p) + s**2 * torch.outer(d, d)) / (1 + s**2)


def mean_step(estimator: Curved, theta: Tensor, H: Tensor | None = None) -> Tensor:
    """E R, or E R H z as a vector; with a base 1/2 J diag H takes the place of the latter."""
    p, at = softmax(theta), vertices(len(theta))
    if H is None:
        return sum(p[k] * step(estimator, theta, z) for k, z in enumerate(at))
    if not hasattr(estimator, "temperature"):
        return J(p) @ H.diagonal() / 2
    return sum(p[k] * step(estimator, theta, z) @ H @ z for k, z in enumerate(at))


def parts(recording: Recording) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Theta, z, g and d = z - pi, all `[rows, latents, categories]`."""
    z, theta = recording.draws[0][0], recording.logits
    d = torch.stack(
        [torch.stack([x - softmax(t) for x, t in zip(a, b, strict=True)]) for a, b in zip(z, theta, strict=True)]
    )
    return theta, z, recording.slope(z.unsqueeze(0))[0], d


def member(estimator: Curved, last: Recording, H: list[Tensor]) -> Tensor:
    """R (g - H z) + E R H z, H a matrix for each latent."""
    theta, z, g, _ = parts(last)
    estimate = torch.zeros_like(theta)
    for b, i in each(last):
        R = step(estimator, theta[b, i], z[b, i])
        estimate[b, i] = R @ (g[b, i] - H[i] @ z[b, i]) + mean_step(estimator, theta[b, i], H[i])
    return estimate


@form_of(ILSIsotropic)
def isotropic(estimator: ILSIsotropic, recordings: Sequence[Recording]) -> Tensor:
    (*earlier, last), beta = recordings, estimator.decay
    _, latents, categories = last.logits.shape
    S, P = [0.0] * latents, [1e-300] * latents
    for recording in earlier:
        theta, _, g, d = parts(recording)
        rows = range(len(theta))
        S = [beta * S[i] + sum(float(g[b, i] @ d[b, i]) for b in rows) for i in range(latents)]
        P = [beta * P[i] + sum(1 - float(softmax(theta[b, i]).square().sum()) for b in rows) for i in range(latents)]
    identity = torch.eye(categories, dtype=torch.float64)
    return member(estimator, last, [S[i] / P[i] * identity for i in range(latents)])


def diagonals(decay: float, latents: int, categories: int, steps: Sequence[Sequence[tuple]]) -> Tensor:
    """H `[latents, categories]` after steps, each a list of rows (latent, pi, z, g)."""
    h, D = torch.zeros(latents, categories, dtype=torch.float64), torch.zeros(4, latents, categories).double()
    for rows in steps:
        c, D = torch.zeros_like(h), decay * D
        for i, pi, z, g in rows:
            rho = g - h[i] * z
            c[i] += (rho - pi @ rho) * (z - pi)
            D[0, i] += (z - pi) ** 2
            D[1, i] += pi * (1 - pi)
            D[2, i] += z * (z - pi) ** 2
            D[3, i] += (1 - z) * pi * (pi @ z)
        held = 2 * (1 - decay) * (D[3] - 2 * D[2]).clamp(min=0)
        h = h + (c - held * h) / (torch.maximum(D[0], D[1]) + held)
    return h


@form_of(ILSDiagonal, ILSTemperedDiagonal)
def diagonal(estimator: ILSDiagonal, recordings: Sequence[Recording]) -> Tensor:
    *earlier, last = recordings
    steps = []
    for recording in earlier:
        theta, z, g, _ = parts(recording)
        steps.append([(i, softmax(theta[b, i]), z[b, i], g[b, i]) for b, i in each(recording)])
    h = diagonals(estimator.decay, *last.logits.shape[1:], steps)
    return member(estimator, last, [torch.diag(x) for x in h])


class NewtonState:
    """S, P and what is read from them."""

    def __init__(self, estimator: ILSNewton, latents: int, categories: int) -> None:
        self.decay, self.ridge, self.latents, self.categories = estimator.decay, estimator.ridge, latents, categories
        self.S = [torch.zeros(categories, categories, dtype=torch.float64) for _ in range(latents)]
        self.P = [torch.zeros(categories, categories, dtype=torch.float64) for _ in range(latents)]

    def learn(self, theta: Tensor, rest: Tensor, d: Tensor) -> None:
        for i in range(self.latents):
            self.S[i], self.P[i] = self.decay * self.S[i], self.decay * self.P[i]
            for b in range(len(theta)):
                self.S[i] = self.S[i] + torch.outer(rest[b, i] - rest[b, i].mean(), d[b, i])
                self.P[i] = self.P[i] + J(softmax(theta[b, i]))

    def system(self, i: int) -> tuple[Tensor, Tensor]:
        """The matrix to be inverted, and r C."""
        identity = torch.eye(self.categories, dtype=torch.float64)
        C, t = identity - 1 / self.categories, self.P[i].trace() / self.categories
        pull = self.ridge * t * C
        return self.P[i] + pull + t * (identity - C) + 1e-12 * identity, pull

    def curvature(self, i: int) -> Tensor:
        if self.P[i].trace() == 0:
            return torch.zeros_like(self.P[i])
        system, pull = self.system(i)
        H = (self.S[i] + self.S[i].trace() / self.P[i].trace() * pull) @ torch.linalg.inv(system)
        return (H + H.T) / 2


@form_of(ILSNewton)
def newton(estimator: ILSNewton, recordings: Sequence[Recording]) -> Tensor:
    *earlier, last = recordings
    state = NewtonState(estimator, *last.logits.shape[1:])
    for recording in earlier:
        theta, _, g, d = parts(recording)
        state.learn(theta, g, d)
    return member(estimator, last, [state.curvature(i) for i in range(state.latents)])
