"""Prints how often intervals of a gradient report hold the truth: `python experiments/interval_table.py --help`.

The truth is bias and variance by enumeration of the draws themselves, on random problems that can be enumerated.
"""

from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from torch import Tensor

from ils_lightning.diagnose import gradient_report
from ils_lightning.estimators import Estimator, LeaveOneOut, Pullback, Reinforce, ReinMax, StraightThrough
from ils_lightning.estimators.categorical import enumerate_states, log_prob

Loss = Callable[[Tensor], Tensor]
MADE: dict[str, Callable[[], Estimator]] = {
    "StraightThrough": StraightThrough,
    "ReinMax": ReinMax,
    "Reinforce": Reinforce,
    "LeaveOneOut": lambda: LeaveOneOut(samples=2),
}


def problem(seed: int) -> tuple[Tensor, Loss]:
    """Logits `[rows, latents, categories]` and a tanh network of z and the row."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    rows, latents, categories = (int(torch.randint(low, high, (), generator=generator)) for low, high in SIZES)
    W, b, v = randn(latents * categories, 6), randn(rows, 6), randn(6)
    return randn(rows, latents, categories), lambda z: torch.tanh(z.flatten(-2) @ W + b) @ v


SIZES = (1, 4), (1, 3), (2, 6)


def outcomes(estimator: Estimator, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
    """All estimates of each row `[outcomes, rows, latents, categories]` and their probabilities `[outcomes, rows]`."""
    pi = logits.softmax(dim=-1)
    z = enumerate_states(*logits.shape[-2:], like=logits).unsqueeze(1).expand(-1, *logits.shape).clone()
    p = log_prob(logits, z).sum(dim=-1).exp()
    if isinstance(estimator, Pullback):
        leaf = z.requires_grad_()
        (g,) = torch.autograd.grad(f(leaf).sum(), leaf)
        return estimator.pullback(logits.expand_as(z), pi.expand_as(z), z.detach(), g), p
    if isinstance(estimator, Reinforce):
        return f(z)[..., None, None] * (z - pi), p
    loss = f(z)
    pairs = (loss[:, None] - loss)[..., None, None] * (z[:, None] - z) / 2
    return pairs.flatten(0, 1), (p[:, None] * p).flatten(0, 1)


def enumerated(estimator: Estimator, logits: Tensor, f: Loss) -> tuple[float, float]:
    """Relative bias and relative variance."""
    e, p = outcomes(Reinforce(), logits, f)
    G = (p[..., None, None] * e).sum(dim=0)
    e, p = outcomes(estimator, logits, f)
    mean = (p[..., None, None] * e).sum(dim=0)
    variance = (p[..., None, None] * (e - mean).square()).sum()
    return float((mean - G).norm() / G.norm()), float(variance / G.square().sum())


def covered(seeds: range, draws: int) -> Tensor:
    """Whether bias and variance lie in their intervals, `[problems, estimators, 2]`."""
    found = []
    for seed in seeds:
        logits, f = problem(seed)
        report = gradient_report(f, logits, {name: make() for name, make in MADE.items()}, draws=draws, seed=seed)
        rows = {row.name: row for row in report.rows}
        for name, make in MADE.items():
            bias, variance = enumerated(make(), logits, f)
            row = rows[name]
            found.append(row.relative_bias_low <= bias <= row.relative_bias_high)
            found.append(row.relative_variance_low <= variance <= row.relative_variance_high)
    return torch.tensor(found).reshape(len(seeds), len(MADE), 2)


def main(problems: int = 200, draws: int = 2000) -> None:
    """Prints the shares, by estimator.

    Args:
        problems: random problems.
        draws: estimates of each.
    """
    inside = covered(range(problems), draws).double().mean(dim=0)
    print("| estimator | bias | variance |\n| --- | --- | --- |")
    for name, (bias, variance) in zip([*MADE, "all"], [*inside.tolist(), inside.mean(dim=0).tolist()], strict=True):
        print(f"| {name} | {bias:.1%} | {variance:.1%} |")


if __name__ == "__main__":
    auto_cli(main)
