"""Prints an estimate's processor time beside ReinMax's and a decoder's: `python experiments/cost_table.py`."""

import statistics
import time
from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from torch import nn

from ils_lightning.estimators import ILSCV, ILSDiagonal, ILSIsotropic, ILSJoint, ILSNewton, ReinMax, StraightThrough

ESTIMATORS = (ReinMax, StraightThrough, ILSCV, ILSIsotropic, ILSDiagonal, ILSNewton, ILSJoint)
SIZES = ((8, 4), (16, 12))
DECODERS = {"digits": (128, 64, 64), "MNIST": (256, 512, 784)}
Work = Callable[[], object]


def estimate(estimator: nn.Module, batch: int, latents: int, categories: int) -> Work:
    """Forward and backward of an estimator on a linear loss, which costs next to nothing."""
    logits, slope = torch.randn(batch, latents, categories, requires_grad=True), torch.randn(latents, categories)
    return lambda: estimator(logits, lambda z: (z * slope).sum(dim=(-2, -1))).sum().backward()


def decoder(batch: int, inputs: int, sizes: tuple[int, ...]) -> Work:
    """Forward and backward of a decoder with cross-entropy, the gradient in z included."""
    layers = [m for a, b in zip((inputs, *sizes), sizes, strict=False) for m in (nn.Linear(a, b), nn.ReLU())][:-1]
    net, z, x = nn.Sequential(*layers), torch.rand(batch, inputs, requires_grad=True), torch.rand(batch, sizes[-1])
    loss = nn.BCEWithLogitsLoss(reduction="sum")
    return lambda: loss(net(z), x).backward()


def medians(work: dict[str, Work], repeats: int, calls: int = 10) -> dict[str, float]:
    """Median microseconds of one call, from interleaved repeats."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats + 1):
        for name, call in work.items():
            start = time.process_time()
            for _ in range(calls):
                call()
            times[name].append((time.process_time() - start) / calls * 1e6)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def main(batch: int = 100, repeats: int = 30) -> None:
    """Prints the table.

    Args:
        batch: rows.
        repeats: interleaved repeats whose median is taken.
    """
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, batch {batch}, median of {repeats} repeats of 10 calls")
    for latents, categories in SIZES:
        work = {e.__name__: estimate(e(), batch, latents, categories) for e in ESTIMATORS}
        work |= {name: decoder(batch, latents * categories, sizes) for name, sizes in DECODERS.items()}
        found = medians(work, repeats)
        print(f"{latents} latents x {categories} categories | us | / ReinMax | / digits decoder | / MNIST decoder")
        for name, value in found.items():
            print(f"{name} | {value:.0f} | " + " | ".join(f"{value / found[k]:.2f}" for k in ("ReinMax", *DECODERS)))


if __name__ == "__main__":
    auto_cli(main)
