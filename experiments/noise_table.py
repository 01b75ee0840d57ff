"""Prints the noise of estimates at a checkpoint of a comparison: `python experiments/noise_table.py CHECKPOINT`.

The weights are held as the checkpoint has them. Estimators that learn see `seen` batches first, and then stand still.
Printed is, for the gradient of one batch of 100 images that reaches the weights of the encoder, and for that of the
decoder, the variance over draws relative to the square of the mean: what a run still has to average away. The mean is
as biased as its estimator; the decoder's gradient is that of the loss at the draws.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor

from ils_lightning.compare.grid.spec import read
from ils_lightning.compare.training.fit import make, make_trainer
from ils_lightning.estimators import (
    Average,
    Estimator,
    ILSDiagonal,
    ILSJoint,
    ILSLowRank,
    ILSNewton,
    ILSTempered,
    LatinHypercube,
    LeaveOneOut,
    ReinMax,
)
from ils_lightning.set_up import set_up
from ils_lightning.tables import markdown

ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "ReinMax(1.5)": lambda: ReinMax(1.5),
    "Average(ReinMax(1.5) over 8)": lambda: Average(ReinMax(1.5), 8),
    "Average(ReinMax(1.5) over 4)": lambda: Average(ReinMax(1.5), 4),
    "LatinHypercube(ReinMax(1.5) over 2)": lambda: LatinHypercube(ReinMax(1.5), 2),
    "LatinHypercube(ReinMax(1.5) over 4)": lambda: LatinHypercube(ReinMax(1.5), 4),
    "LatinHypercube(ReinMax(1.5) over 8)": lambda: LatinHypercube(ReinMax(1.5), 8),
    "LatinHypercube(ILSTempered(1.5) over 4)": lambda: LatinHypercube(ILSTempered(temperature=1.5), 4),
    "LatinHypercube(ILSLowRank over 4)": lambda: LatinHypercube(ILSLowRank(), 4),
    "LeaveOneOut(4)": LeaveOneOut,
    "ILSTempered(1)": lambda: ILSTempered(temperature=1.0),
    "ILSTempered(1.5)": lambda: ILSTempered(temperature=1.5),
    "ILSTempered(2)": lambda: ILSTempered(temperature=2.0),
    "ILSJoint": ILSJoint,
    "ILSNewton": ILSNewton,
    "ILSDiagonal": ILSDiagonal,
    "ILSLowRank": ILSLowRank,
}
SEEN = 150
"""Batches that an estimator learns from."""


def gradients(model: Any, estimator: Estimator, batch: Any) -> tuple[Tensor, Tensor]:
    """One estimate of the mean loss's gradient at the weights of encoder and decoder, each in a row."""
    encoder, decoder = list(model.encoder.parameters()), list(model.decoder.parameters())
    logits, f, _ = model.problem(batch)
    found = [part.flatten() for part in torch.autograd.grad(estimator(logits, f).mean(), encoder + decoder)]
    return torch.cat(found[: len(encoder)]), torch.cat(found[len(encoder) :])


def noise(found: Sequence[Tensor]) -> float:
    """Variance over draws, relative to the square of the mean."""
    each = torch.stack(list(found))
    variance = each.var(dim=0).sum()
    return float(variance / (each.mean(dim=0).square().sum() - variance / len(each)))


def main(
    checkpoint: Path,
    comparison: str = "compare/vae_mnist_160",
    setting: str | None = "L24K4",
    draws: int = 64,
    seed: int = 1,
    seen: int = SEEN,
    only: list[str] | None = None,
) -> None:
    """Prints a line for every estimator.

    Args:
        checkpoint: last.ckpt of one of the comparison's trainings.
        comparison: its file or name.
        setting: of the training; null where the comparison has none.
        draws: estimates by each.
        seed: of the draws.
        seen: batches that an estimator learns from.
        only: these estimators, by the names of the table.
    """
    torch.set_num_threads(1)
    whole = read(comparison)
    model, data = make(whole.configuration(whole.runs[0], whole.seeds[0], setting or "", {}))
    set_up(make_trainer({"accelerator": "cpu"}), model, data, str(checkpoint))
    model.eval()
    torch.manual_seed(seed)
    batch, *others = islice(data.train_dataloader(), seen + 1)
    lines = []
    for name in only or ESTIMATORS:
        estimator = ESTIMATORS[name]()
        if estimator.learns:
            for one in others:
                gradients(model, estimator, one)
        estimator.eval()
        found = zip(*(gradients(model, estimator, batch) for _ in range(draws)), strict=True)
        lines.append([name, *(f"{noise(part):.2f}" for part in found)])
    print(markdown(["estimator", "encoder", "decoder"], lines), end="")


if __name__ == "__main__":
    auto_cli(main)
