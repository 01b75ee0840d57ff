"""Prints variances relative to ReinMax's on the random problems: `python experiments/variance_table.py --help`."""

from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from random_problems import CATEGORIES, KINDS, LATENTS, batch_variance, random_set, replicates, row_variance
from torch import Tensor

from ils_lightning.estimators import ILSCV, Estimator, ILSDiagonal, ILSIsotropic, ILSNewton, ReinMax, StraightThrough
from ils_lightning.estimators.family import Curved

MAKE: dict[str, Callable[[], Estimator]] = {
    "ILSCV": ILSCV,
    "ILSNewton(base=0)": lambda: ILSNewton(base=0.0),
    "ILSNewton": ILSNewton,
    "ILSDiagonal": ILSDiagonal,
    "ILSIsotropic": ILSIsotropic,
    "StraightThrough": StraightThrough,
}
STEPS = 20
"""Steps of a learnt curvature, whose memory is ten; the last is measured."""


def ratios(
    make: Callable[[], Estimator],
    seed: int,
    rows: int = 100,
    alike: bool = True,
    count: int = 64,
    variance: Callable[[Tensor], Tensor] = row_variance,
) -> Tensor:
    """Variance relative to ReinMax's on one set, `[kinds, categories, latents]`; `count` runs each."""
    found = []
    for problem in random_set(seed, rows, alike):
        estimator = make()
        given = replicates(problem, estimator, STEPS if isinstance(estimator, Curved) else 1, count)
        found.append(variance(given) / variance(replicates(problem, ReinMax(), 1, count)))
    return torch.stack(found).reshape(len(KINDS), len(CATEGORIES), len(LATENTS))


def main(seeds: list[int] = [3], rows: int = 100, alike: bool = True, count: int = 64, batch: bool = False) -> None:  # noqa: B006
    """Prints median and largest ratio, and the medians by kind of loss and by number of latents.

    Args:
        seeds: sets of 36 problems.
        rows: of a batch.
        alike: one loss and one row of logits for all rows, or one for each.
        count: independent runs.
        batch: variance of the batch's mean times the rows, in place of one row's.
    """
    print(f"seeds {seeds}, {rows} rows {'alike' if alike else 'that differ'}, {count} runs")
    print("| estimator | median | largest | quadratic | mlp | decoder | L = 1 | 2 | 4 |\n|" + " --- |" * 9)
    for name, make in MAKE.items():
        variance = batch_variance if batch else row_variance
        ratio = torch.stack([ratios(make, seed, rows, alike, count, variance) for seed in seeds])
        parts = [ratio.median(), ratio.max()]
        parts += [ratio[:, i].median() for i in range(len(KINDS))] + [
            ratio[..., i].median() for i in range(len(LATENTS))
        ]
        print(f"| `{name}` | " + " | ".join(f"{part:.3f}" for part in parts) + " |", flush=True)


if __name__ == "__main__":
    auto_cli(main)
