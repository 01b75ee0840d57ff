"""Prints what pooling a curvature over unlike rows costs: `python experiments/unlike_rows_table.py --help`.

On the random problems whose rows differ, with the population's curvature and all expectations by enumeration.
"""

import itertools

import torch
from jsonargparse import auto_cli
from random_problems import RandomProblem, newton_step, random_set
from torch import Tensor

from ils_lightning.estimators import ReinMax
from ils_lightning.estimators.family import J


def population(problem: RandomProblem) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Pi, every draw, f's gradient there `[states, rows, latents, K]`, f and probabilities `[states, rows]`."""
    index = torch.tensor(list(itertools.product(range(problem.categories), repeat=problem.latents)))
    z = torch.nn.functional.one_hot(index, problem.categories).double().unsqueeze(1)
    z = z.expand(-1, *problem.logits.shape).clone().requires_grad_()
    f = problem.loss(z)
    (g,) = torch.autograd.grad(f.sum(), z)
    z, pi = z.detach(), problem.logits.softmax(dim=-1).expand_as(z)
    return pi, z, g, f.detach(), (pi * z).sum(dim=-1).prod(dim=-1)


def curvature(pi: Tensor, z: Tensor, g: Tensor, p: Tensor) -> Tensor:
    """H of the population, pooled over rows."""
    S = torch.einsum("sb,sblk,sblj->lkj", p, g - g.mean(dim=-1, keepdim=True), z - pi)
    P = torch.diag_embed(pi[0].sum(dim=0)) - torch.einsum("blk,blj->lkj", pi[0], pi[0])
    H = S @ torch.linalg.pinv(P, rtol=1e-12, hermitian=True)
    return (H + H.mT) / 2


def biases(problem: RandomProblem) -> dict[str, tuple[float, float]]:
    """Bias relative to the gradient of a row (root mean square over rows), and of the sum over rows of gradients."""
    pi, z, g, f, p = population(problem)
    H, exact = curvature(pi, z, g, p), torch.einsum("sb,sb,sblk->blk", p, f, z - pi)
    given = {"StraightThrough": J(pi, g), "ReinMax, base 1": ReinMax().pullback(pi.log(), pi, z, g)}
    given |= {f"base {s}": newton_step(pi, z, g, H, s) for s in (0.0, 0.5)}
    found = {}
    for name, estimate in given.items():
        bias = torch.einsum("sb,sblk->blk", p, estimate) - exact
        found[name] = (
            (bias.norm() / exact.norm()).item(),
            (bias.sum(dim=0).norm() / exact.sum(dim=0).norm()).item(),
        )
    return found


def main(seeds: list[int] = [0, 1, 2], rows: int = 100) -> None:  # noqa: B006
    """Prints medians and the largest of the biases over the problems of up to two latents.

    Args:
        seeds: sets of problems.
        rows: of a batch.
    """
    problems = [one for seed in seeds for one in random_set(seed, rows, alike=False) if one.latents <= 2]
    found = [biases(problem) for problem in problems]
    print(f"{len(problems)} problems, {rows} rows that differ; bias relative to the exact gradient")
    print("| estimator | a row, median | largest | the batch's sum, median |\n|" + " --- |" * 4)
    for name in found[0]:
        row, total = torch.tensor([one[name] for one in found]).T
        print(f"| {name} | {row.median():.1%} | {row.max():.1%} | {total.median():.1%} |")


if __name__ == "__main__":
    auto_cli(main)
