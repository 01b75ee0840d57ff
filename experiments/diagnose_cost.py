"""Prints what a gradient report of a digits autoencoder costs: `python experiments/diagnose_cost.py --help`.

The autoencoder has 8 latents of 4 categories. First, 10 000 estimates by every sampler (the estimators whose draw is
one line of a network), then the exact gradient over all 65 536 codes: processor seconds of one thread, and for the
latter the peak of the process's memory.
"""

import resource
import time

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ils_lightning.data import Digits
from ils_lightning.diagnose import inputs, report, target
from ils_lightning.diagnose.named import default_estimators
from ils_lightning.estimators import Loss, ReinMax, Sampler
from ils_lightning.modules import DiscreteVAE
from ils_lightning.tables import on_screen

LATENTS, CATEGORIES = 8, 4
MEMORY, SETTLE, SEED = 2**26, 30, 0


def problem(rows: int) -> tuple[Tensor, Loss]:
    """Logits `[rows, latents, categories]` and the reconstruction loss of an autoencoder before training."""
    torch.manual_seed(SEED)
    data = Digits(batch_size=rows)
    data.setup("fit")
    model = DiscreteVAE(ReinMax(), latents=LATENTS, categories=CATEGORIES, image_shape=[1, 8, 8]).eval()
    x = next(iter(data.train_dataloader())).x
    with torch.no_grad():
        return model.encoder(x), model.reconstruction_loss(x)


def seconds_of_samplers(rows: int, draws: int) -> dict[str, float]:
    """Processor seconds of `draws` estimates by every sampler."""
    logits, f = problem(rows)
    facts = inputs.check(logits, f)
    truth = target.enumerated(logits, f, facts, MEMORY)
    samplers = {name: one for name, one in default_estimators().items() if isinstance(one, Sampler)}
    seconds = {}
    for name, one in track(samplers.items(), f"{rows} rows", transient=True):
        torch.manual_seed(SEED)
        start = time.process_time()
        report._row(name, one, logits, f, facts, truth, draws, SETTLE, MEMORY)
        seconds[name] = time.process_time() - start
    return seconds


def exact(rows: int) -> str:
    """What the exact gradient of `rows` rows takes."""
    logits, f = problem(rows)
    before, start = peak(), time.process_time()
    found = target.enumerated(logits, f, inputs.check(logits, f), MEMORY)
    return (
        f"{found.source}, {rows} rows: {time.process_time() - start:.1f} s, "
        f"peak of the process {peak():.2f} GiB ({before:.2f} before)"
    )


def peak() -> float:
    """The most memory the process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(rows: list[int] = [1, 16], draws: int = 10_000, exact_rows: int = 100) -> None:  # noqa: B006
    """Prints the table and the line.

    Args:
        rows: images of a batch, one column each.
        draws: estimates of the batch by every sampler.
        exact_rows: images of the batch whose gradient is enumerated.
    """
    torch.set_num_threads(1)
    print(exact(exact_rows))
    columns = [seconds_of_samplers(number, draws) for number in rows]
    table = on_screen(f"processor seconds of {draws:,} estimates")
    for heading in ("sampler", *(f"rows = {number}" for number in rows)):
        table.add_column(heading)
    for name in columns[0]:
        table.add_row(name, *(f"{column[name]:.2f}" for column in columns))
    table.add_row("all", *(f"{sum(column.values()):.2f}" for column in columns))
    Console().print(table)


if __name__ == "__main__":
    auto_cli(main)
