"""Replicates of one row along the batch axis, and the test of their mean that referees every claim of unbiasedness."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from ils_lightning.estimators import Estimator
from ils_lightning.testing.problems import Base, Problem, expectation, linear, mlp, quadratic, truth

PROBLEMS = {"linear": linear, "quadratic": quadratic, "mlp": mlp}
CHUNK = 50_000


def size(estimator: Estimator) -> tuple[int, int]:
    """Latents and categories of the problem an estimator is tried on."""
    return (4, 2) if estimator.binary else (2, 5)


def problem_for(estimator: Estimator, name: str) -> Problem:
    """The problem of this name (`PROBLEMS`) at that size."""
    return PROBLEMS[name](*size(estimator))


def threshold(components: int, level: float = 1e-4) -> float:
    """Two-sided normal quantile shared over the components, never below 4.5."""
    quantile = -torch.special.ndtri(torch.tensor(level / (2 * components), dtype=torch.float64))
    return max(4.5, quantile.item())


class Moments:
    """Mean and standard error of replicates that arrive in chunks `[rows, ...]`."""

    def __init__(self) -> None:
        self.count, self.total, self.square = 0, torch.zeros(()), torch.zeros(())

    def add(self, x: Tensor) -> None:
        x = x.detach().double()
        self.count += len(x)
        self.total = self.total + x.sum(dim=0)
        self.square = self.square + x.square().sum(dim=0)

    def mean(self) -> Tensor:
        return self.total / self.count

    def variance_of_mean(self) -> Tensor:
        return (self.square / self.count - self.mean().square()).clamp(min=0) / self.count

    def compare(self, other: "Moments") -> float:
        """Worst score of the difference of two means."""
        variance = self.variance_of_mean() + other.variance_of_mean()
        return worst_score(self.mean() - other.mean(), variance.sqrt(), scale=self.mean().abs())


def simulate(estimator: Estimator, problem: Problem, replicates: int, seed: int = 1) -> dict[str, Moments]:
    """Moments of the loss, the logits' gradient and theta's gradient, all through `forward` and `backward`."""
    torch.manual_seed(seed)
    moments = {"loss": Moments(), "gradient": Moments(), "theta": Moments()}
    for rows in torch.arange(replicates).split(CHUNK):
        logits = problem.logits.expand(len(rows), -1, -1).clone().requires_grad_()
        theta = torch.zeros_like(logits, requires_grad=True)
        loss = estimator(logits, problem.loss(theta))
        loss.sum().backward()
        for name, x in (("loss", loss), ("gradient", logits.grad), ("theta", theta.grad)):
            if x is None:
                raise AssertionError(f"{type(estimator).__name__}: backward delivered no {name}")
            moments[name].add(x)
    return moments


def worst_score(away: Tensor, error: Tensor, scale: Tensor) -> float:
    """Largest |z| in units of its threshold: rejected above 1.

    Where nothing varies (standard error below 1e-9 of the scale) there is no z: the difference must be within 1e-6.
    """
    fixed = error <= 1e-9 * (1 + scale)
    z = away.abs() / torch.where(fixed, 1, error) / threshold(away.numel())
    close = torch.where(away.abs() <= 1e-6 * (1 + scale), 0.0, float("inf")).to(z)
    return torch.where(fixed, close, z).max().item()


def worst(moments: Moments, expected: Tensor) -> float:
    """Worst score of the mean of replicates against what it should be."""
    return worst_score(moments.mean() - expected, moments.variance_of_mean().sqrt(), scale=expected.abs())


def settle(estimator: Estimator, problem: Problem) -> None:
    """Gives baselines and learnt coefficients a state that is not the initial one, then freezes it."""
    estimator.build(*problem.logits.shape)
    parameters = list(estimator.parameters())
    for _ in range(2):
        logits = problem.logits.expand(64, -1, -1).clone().requires_grad_()
        estimator(logits, problem.loss()).mean().backward()
    with torch.no_grad():
        for p in parameters:
            p.sub_(0 if p.grad is None else 0.01 * p.grad / p.grad.norm().clamp(min=1e-6))
            p.grad = None
    estimator.eval()


@cache
def scores(
    make: Callable[[], Estimator],
    name: str,
    objective: Callable[[Tensor, Base], Tensor] = expectation,
    replicates: int = 100_000,
) -> dict[str, float]:
    """Worst scores of `loss`, `gradient` and `theta` (the parameter inside f) on a problem; simulated once."""
    estimator = make().double()
    problem = problem_for(estimator, name)
    estimator.build(*problem.logits.shape)
    if estimator.unbiased:
        settle(estimator, problem)
    expected = truth(problem, objective)
    moments = simulate(estimator, problem, replicates)
    return {key: worst(moments[key], expected[key]) for key in expected}
