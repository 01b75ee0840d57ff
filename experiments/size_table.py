"""What is the curvature between latents worth with many latents? `python experiments/size_table.py`, some minutes.

A discrete VAE on MNIST (networks 784-512-256) at each size, trained by ReinMax for `epochs` epochs and then held.
Estimators that learn see 100 batches of 100 images first, and then stand still. Printed is, for the gradient of one
batch that reaches the weights of the encoder, the variance over draws relative to the square of the mean; the
processor time of an estimate that also learns, through encoder and decoder, relative to ReinMax's; and the numbers
that the estimator keeps.
"""

import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from jsonargparse import auto_cli
from lightning import Trainer, seed_everything
from noise_table import gradients, noise

from ils_lightning.data import ImageData
from ils_lightning.estimators import Estimator, ILSDiagonal, ILSJoint, ILSLowRank, ILSNewton, ReinMax
from ils_lightning.modules import DiscreteVAE
from ils_lightning.networks import MLP
from ils_lightning.tables import markdown

ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "ReinMax": ReinMax,
    "ILSDiagonal": ILSDiagonal,
    "ILSNewton": ILSNewton,
    "ILSLowRank(rank=1)": lambda: ILSLowRank(rank=1),
    "ILSLowRank": ILSLowRank,
    "ILSLowRank(rank=32)": lambda: ILSLowRank(rank=32),
    "ILSJoint": ILSJoint,
}
LARGEST_JOINT = 4096
"""Latents x categories; its square beyond is too much for a table that takes minutes."""


def trained(latents: int, categories: int, epochs: int, seed: int) -> tuple[Any, list[Any]]:
    """A model in the midst of its training, and batches."""
    seed_everything(seed, verbose=False)
    data = ImageData("mnist", batch_size=100)
    model = DiscreteVAE(ReinMax(), latents, categories, encoder=MLP([512, 256]), decoder=MLP([256, 512]))
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(model, datamodule=data)
    return model.eval(), list(islice(data.train_dataloader(), 101))


def main(
    sizes: list[tuple[int, int]] = [(12, 16), (30, 10), (128, 4), (128, 16)],  # noqa: B006 (jsonargparse shows it)
    epochs: int = 2,
    draws: int = 48,
    seed: int = 1,
) -> None:
    """Prints a line for every estimator at every size.

    Args:
        sizes: [latents, categories].
        epochs: of training before.
        draws: estimates by each.
        seed: of training and draws.
    """
    torch.set_num_threads(1)
    lines = []
    for latents, categories in sizes:
        model, (batch, *others) = trained(latents, categories, epochs, seed)
        reference = 0.0
        for name, made in ESTIMATORS.items():
            if name == "ILSJoint" and latents * categories > LARGEST_JOINT:
                continue
            estimator = made()
            torch.manual_seed(seed)
            seconds = []
            for one in others:
                begun = time.process_time()
                gradients(model, estimator, one)
                seconds.append(time.process_time() - begun)
            estimator.eval()
            found = noise([gradients(model, estimator, batch)[0] for _ in range(draws)])
            usual = sorted(seconds)[len(seconds) // 2]
            reference = reference or usual
            kept = sum(x.numel() for x in estimator.state_dict().values())
            lines.append([f"{latents} x {categories}", name, f"{found:.2f}", f"{usual / reference:.2f}", f"{kept:,}"])
    print(markdown(["latents x categories", "estimator", "noise", "time / ReinMax", "numbers kept"], lines), end="")


if __name__ == "__main__":
    auto_cli(main)
