"""The joint members: the curvature between latents, the logits as a guess, and their two regressions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from formulas import form_of
from formulas.family import NewtonState, diagonals, mean_step, member, parts, step
from formulas.plain import each, softmax
from ils_lightning.estimators import ILSJoint, ILSLowRank, ILSTempered
from ils_lightning.estimators.ils_low_rank import some_basis
from ils_lightning.testing.formula import Recording


class JointState(NewtonState):
    """T and the sums of the regressions beside S and P; all lists by latent."""

    def __init__(self, estimator: ILSJoint, latents: int, categories: int) -> None:
        super().__init__(estimator, latents, categories)
        self.T = torch.zeros(latents, latents, categories, categories, dtype=torch.float64)
        self.fit = torch.zeros(2, latents, 3, dtype=torch.float64)  # of kappa and nu: sum e.n, sum |n|^2, sum (e.n)^2

    def between(self) -> Tensor:
        """H_lm `[latents, latents, categories, categories]`, symmetric as one large matrix."""
        H = torch.zeros_like(self.T)
        for i in range(self.latents):
            for m in range(self.latents):
                if i != m and self.P[m].trace() > 0:
                    H[i, m] = self.T[i, m] @ torch.linalg.inv(self.system(m)[0])
        return (H + H.permute(1, 0, 3, 2)) / 2

    def learn_between(self, left: Tensor, d: Tensor) -> None:
        self.T = self.decay * self.T
        for b in range(len(d)):
            for i in range(self.latents):
                for m in range(self.latents):
                    if i != m:
                        self.T[i, m] += torch.outer(left[b, i] - left[b, i].mean(), d[b, m])

    def coefficient(self, which: int, i: int) -> float:
        product, square, squares = self.fit[which, i].tolist()
        return max(0.0, 1 - squares / product**2) * product / square if square > 0 else 0.0


class LowRankState(JointState):
    """The same between latents from directions V, sums Y and C; a diagonal for each latent."""

    def __init__(self, estimator: ILSLowRank, latents: int, categories: int) -> None:
        self.decay, self.rank, self.latents, self.categories = estimator.decay, estimator.rank, latents, categories
        self.fit = torch.zeros(2, latents, 3, dtype=torch.float64)
        self.V, self.Y = (torch.zeros(latents, categories, self.rank, dtype=torch.float64) for _ in range(2))
        self.C = torch.zeros(latents, self.rank, self.rank, dtype=torch.float64)
        self.taught: list[list[tuple]] = []  # rows (latent, pi, z, g) of every step

    def curvature(self, i: int) -> Tensor:
        return torch.diag(diagonals(self.decay, self.latents, self.categories, self.taught)[i])

    def answer(self, i: int) -> Tensor:
        """W of a latent."""
        if self.C[i].trace() == 0:
            return torch.zeros_like(self.Y[i])
        ridge = self.C[i].trace() / self.rank / 1000 * torch.eye(self.rank, dtype=torch.float64)
        return self.Y[i] @ torch.linalg.inv(self.C[i] + ridge)

    def between(self) -> Tensor:
        H = torch.zeros(self.latents, self.latents, self.categories, self.categories, dtype=torch.float64)
        for i in range(self.latents):
            for m in range(self.latents):
                if i != m:
                    H[i, m] = self.answer(i) @ self.V[m].T
        return H

    def learn_between(self, left: Tensor, d: Tensor) -> None:
        self.Y, self.C = self.decay * self.Y, self.decay * self.C
        for b in range(len(d)):
            for i in range(self.latents):
                c = sum((self.V[m].T @ d[b, m] for m in range(self.latents) if m != i), torch.zeros(self.rank).double())
                self.Y[i] += torch.outer(left[b, i] - left[b, i].mean(), c)
                self.C[i] += torch.outer(c, c)
        stacked = torch.cat([self.answer(i) for i in range(self.latents)])
        basis = torch.linalg.svd(stacked, full_matrices=False).U if stacked.abs().sum() > 0 else some_basis(stacked)
        turned = self.V.reshape(stacked.shape).T @ basis
        self.Y, self.C = self.Y @ turned, turned.T @ self.C @ turned
        self.V = basis.reshape(self.V.shape)


def one_step(estimator: ILSJoint | ILSLowRank, state: JointState, recording: Recording) -> Tensor:
    """The estimate from the state, which then learns."""
    theta, z, g, d = parts(recording)
    latents = range(state.latents)
    H, between = [state.curvature(i) for i in latents], state.between()
    kappa, nu = ([state.coefficient(which, i) for i in latents] for which in (0, 1))
    u, guess, noise = torch.zeros_like(d), torch.zeros_like(d), torch.zeros(2, *d.shape, dtype=torch.float64)
    estimate = member(estimator, recording, H)
    for b, i in each(recording):
        u[b, i] = sum(between[i, m] @ d[b, m] for m in latents)
        guess[b, i] = theta[b, i] - softmax(theta[b, i]) @ theta[b, i]
        R = step(estimator, theta[b, i], z[b, i])
        noise[0, b, i] = R @ u[b, i]
        noise[1, b, i] = (R - mean_step(estimator, theta[b, i])) @ guess[b, i]
        estimate[b, i] -= kappa[i] * noise[0, b, i] + nu[i] * noise[1, b, i]
    rest, left = torch.zeros_like(g), torch.zeros_like(g)
    for b, i in each(recording):
        rest[b, i] = g[b, i] - kappa[i] * u[b, i] - nu[i] * guess[b, i]
        left[b, i] = g[b, i] - nu[i] * guess[b, i] - H[i] @ z[b, i]
    if isinstance(state, LowRankState):
        state.taught.append([(i, softmax(theta[b, i]), z[b, i], rest[b, i]) for b, i in each(recording)])
    else:
        state.learn(theta, rest, d)
    state.learn_between(left, d)
    learn_fit(state, estimate, noise, (kappa, nu), between, guess)
    return estimate


def learn_fit(
    state: JointState,
    estimate: Tensor,
    noise: Tensor,
    weights: tuple[list[float], list[float]],
    between: Tensor,
    guess: Tensor,
) -> None:
    K = state.categories
    state.fit = state.decay * state.fit
    for which, coefficient in enumerate(weights):
        for i in range(state.latents):
            targets = estimate[:, i] + coefficient[i] * noise[which, :, i]
            for b, e in enumerate(targets - targets.mean(dim=0)):
                n = noise[which, b, i]
                size = between[i].square().sum() / K**3 if which == 0 else guess[b, i].square().sum() / K**2
                state.fit[which, i] += torch.stack([e @ n, n @ n + 5e-4 * size, (e @ n) ** 2])


@form_of(ILSJoint, ILSTempered)
def joint(estimator: ILSJoint, recordings: Sequence[Recording]) -> Tensor:
    state = JointState(estimator, *recordings[0].logits.shape[1:])
    return [one_step(estimator, state, recording) for recording in recordings][-1]


@form_of(ILSLowRank)
def low_rank(estimator: ILSLowRank, recordings: Sequence[Recording]) -> Tensor:
    state = LowRankState(estimator, *recordings[0].logits.shape[1:])
    return [one_step(estimator, state, recording) for recording in recordings][-1]
