"""Prints what curvature can do at many categories: `python experiments/large_table.py --help`.

One latent whose categories have embeddings in 32 hidden units, W ~ N(0, 1); f(z, x) = BCE(V relu(W z + b), x) over 16
pixels; logits N(0, 1). The exact gradient is pi (f - E f). `low rank` has the curvature W M W^T, M the mean of f's
second derivative in the hidden units over rows and draws: rank 16, known and not learnt, about the
best that a diagonal plus low rank could come to.
"""

import time

import torch
from jsonargparse import auto_cli
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from ils_lightning.estimators import Estimator, ILSDiagonal, Pullback, ReinMax, StraightThrough
from ils_lightning.estimators.family import M_s

HIDDEN, PIXELS = 32, 16


class LowRank(Pullback):
    """M_s (g - H z) + 1/2 J_pi diag H with H = W M W^T given and never formed."""

    def __init__(self, base: float, W: Tensor, M: Tensor) -> None:
        super().__init__()
        self.base, self.W, self.M = base, W, M

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        left = self.W @ self.M
        Hz = (z @ self.W) @ left.mT
        curved = (left * self.W).sum(dim=-1)
        return M_s(pi, z - pi, g - Hz, self.base) + (pi * (curved - (pi @ curved).unsqueeze(-1))) / 2


class Problem:
    """Logits `[rows, 1, categories]`, a loss, the mean curvature in the hidden units, and the exact gradient."""

    def __init__(self, categories: int, rows: int, alike: bool, seed: int) -> None:
        torch.manual_seed(seed)
        own = 1 if alike else rows
        self.W, self.b = torch.randn(categories, HIDDEN), torch.randn(HIDDEN)
        self.V = torch.randn(HIDDEN, PIXELS) / HIDDEN**0.5
        self.x = (torch.randn(own, PIXELS) > 0).float().expand(rows, -1)
        self.logits = torch.randn(own, 1, categories).expand(rows, -1, -1)

    def pixels(self, z: Tensor) -> Tensor:
        return torch.relu(z.flatten(-2) @ self.W + self.b) @ self.V

    def loss(self, z: Tensor) -> Tensor:
        output = self.pixels(z)
        return bce(output, self.x.expand_as(output), reduction="none").sum(dim=-1)

    def exact(self) -> Tensor:
        output = torch.relu(self.W + self.b) @ self.V
        f = torch.nn.functional.softplus(output).sum(dim=-1) - self.x @ output.mT
        pi = self.logits[:, 0].softmax(dim=-1)
        return (pi * (f - (pi * f).sum(dim=-1, keepdim=True))).unsqueeze(1)

    def curvature(self) -> Tensor:
        on = (self.W + self.b > 0).float()
        slope = torch.sigmoid(torch.relu(self.W + self.b) @ self.V)
        weight = self.logits[:, 0].softmax(dim=-1).mean(dim=0)
        back = on.unsqueeze(-1) * self.V
        return torch.einsum("k,khp,kp,kip->hi", weight, back, slope * (1 - slope), back)


def measure(estimator: Estimator, problem: Problem, steps: int, draws: int) -> tuple[float, float, float]:
    """Squared bias and variance relative to the exact gradient's square, and milliseconds of an estimate."""
    start = time.process_time()
    for _ in range(steps):
        estimator.estimate(problem.logits, problem.loss)
    spent = (time.process_time() - start) / steps
    estimator.eval()
    drawn = torch.stack([estimator.estimate(problem.logits, problem.loss)[1] for _ in range(draws)])
    exact, variance = problem.exact(), drawn.var(dim=0).sum()
    bias = (drawn.mean(dim=0) - exact).square().sum() - variance / draws
    return (bias / exact.square().sum()).item(), (variance / exact.square().sum()).item(), spent * 1e3


def main(
    categories: list[int] = [128, 512, 4096],  # noqa: B006
    rows: int = 100,
    alike: bool = False,
    steps: int = 40,
    draws: int = 60,
    seed: int = 0,
) -> None:
    """Prints one table.

    Args:
        categories: sizes tried.
        rows: of a batch.
        alike: one loss and one row of logits for all rows, or one for each.
        steps: of learning before the estimator is measured.
        draws: estimates behind a mean and a variance.
        seed: of problem and draws.
    """
    print("| categories | estimator | bias^2 | variance | ms |\n|" + " --- |" * 5)
    for size in categories:
        problem = Problem(size, rows, alike, seed)
        work: dict[str, Estimator] = {"ReinMax": ReinMax(), "StraightThrough": StraightThrough()}
        for base in (0.0, 0.5):
            work[f"ILSDiagonal(base={base:g})"] = ILSDiagonal(base=base)
            work[f"low rank, base {base:g}"] = LowRank(base, problem.W, problem.curvature())
        for name, estimator in work.items():
            bias, variance, spent = measure(estimator, problem, steps, draws)
            print(f"| {size} | {name} | {bias:.3g} | {variance:.3g} | {spent:.2f} |", flush=True)


if __name__ == "__main__":
    auto_cli(main)
