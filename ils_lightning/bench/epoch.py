"""An epoch of a discrete VAE through the Trainer, beside a plain PyTorch loop that does the same work.

Images of MNIST where they are at hand (ILS_LIGHTNING_DATA), else random ones of the same size: time does not depend on
what they show. Both ways read the same batches, with the Trainer's logs, bar and checkpoints on.
"""

import time
from typing import Any

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Generator, Tensor

from ils_lightning.bench.section import Advance, Row, Section
from ils_lightning.bench.steps import Watch, bare, quiet_in_a_folder
from ils_lightning.bench.timing import Timing, wait
from ils_lightning.callbacks import FiniteGuard, LastCheckpoint, RankSeed, StepProgress
from ils_lightning.data.image_batches import ImageBatches
from ils_lightning.data.image_data import ImageData
from ils_lightning.data.image_set import ImageSet, Splits
from ils_lightning.errors import Refusal
from ils_lightning.estimators import ReinMax
from ils_lightning.modules import DiscreteVAE
from ils_lightning.networks import MLP
from ils_lightning.unprofiled import Unprofiled

BATCHES = 600  # of 100 images: what an epoch does once, such as saving, must not count more often


class RandomImages(ImageBatches):
    """Images of MNIST's size that show nothing."""

    def __init__(self) -> None:
        super().__init__(batch_size=100, binarize="none", threshold=0.5, seed=0)

    def load(self) -> Splits:
        pixels = torch.randint(256, (60_000, 1, 28, 28), dtype=torch.uint8, generator=Generator().manual_seed(0))
        images = ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.int64))
        return Splits(images, images.at(slice(0)), images.at(slice(100)))


def run(repeats: int, device: torch.device, advance: Advance) -> list[Section]:
    """Times `BATCHES` training steps both ways in turns."""
    data, name = _data()
    rows: list[Row] = []
    for latents, categories in ((4, 8), (24, 4)):
        found = {way: Timing([], []) for way in _WAYS}
        for turn in range(max(repeats // 5, 1) + 1):
            for way, timing in found.items():
                wall, cpu = _WAYS[way](data, latents, categories, device)
                if turn:  # the first warms up
                    timing.wall.append(wall)
                    timing.cpu.append(cpu)
            advance(f"{latents} x {categories}, turn {turn}")
        loop = found["plain PyTorch loop"]
        for way, timing in found.items():
            row: Row = {"latents x categories": f"{latents} x {categories}", "way": way, "images": name}
            row |= {"seconds an epoch": timing.seconds()}
            rows.append(row | {"to plain": timing.ratio(loop), "cpu, to plain": timing.ratio(loop, "cpu")})
    note = f"{BATCHES} steps of batch 100; networks 784-512-256 and back, ReinMax, Adam"
    return [Section("epoch", "an epoch of a discrete VAE on 60,000 images", rows, note=note)]


def _data() -> tuple[ImageBatches, str]:
    data: ImageBatches = ImageData("mnist", validation=0, download=False)
    try:
        data.setup("fit")
    except Refusal:  # the images are nowhere at hand
        return RandomImages(), "random"
    return data, "mnist"


def _model(latents: int, categories: int) -> DiscreteVAE:
    seed_everything(0, verbose=False)
    options: dict[str, Any] = {"encoder": MLP([512, 256]), "decoder": MLP([256, 512]), "image_shape": [1, 28, 28]}
    return DiscreteVAE(ReinMax(), latents=latents, categories=categories, **options)


def _loss(model: DiscreteVAE, x: Tensor) -> Tensor:
    logits = model.encoder(x)
    kl = model.prior.kl(logits)
    reconstruction = model.estimator(logits, model.reconstruction_loss(x))
    return reconstruction.mean() + kl.mean(dim=0).sum()


def _loop(data: ImageBatches, latents: int, categories: int, device: torch.device) -> tuple[float, float]:
    """The same steps by hand, with the loss of every batch kept."""
    model = _model(latents, categories).to(device)
    model._set_bias(data.pixel_mean)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    losses = []
    wall, cpu = time.perf_counter(), time.process_time()
    for number, batch in enumerate(data.train_dataloader()):
        if number == BATCHES:
            break
        loss = _loss(model, batch.x.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    wait(device)
    return time.perf_counter() - wall, time.process_time() - cpu


class _Bare(LightningModule):
    """The plain loop's step as the least that Lightning takes."""

    def __init__(self, model: DiscreteVAE) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: Any) -> Tensor:
        return _loss(self.model, batch.x)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.001)


def _bare(data: ImageBatches, latents: int, categories: int, device: torch.device) -> tuple[float, float]:
    """Through a Trainer that does nothing else."""
    model = _model(latents, categories)
    model._set_bias(data.pixel_mean)
    options: dict[str, Any] = {"devices": 1, "max_epochs": 1, "limit_train_batches": BATCHES}
    with quiet_in_a_folder():
        return bare(_Bare(model), data.train_dataloader(), accelerator=device.type, **options)


def _fit(data: ImageBatches, latents: int, categories: int, device: torch.device) -> tuple[float, float]:
    watch = Watch()
    with quiet_in_a_folder() as folder:
        trainer = Trainer(
            default_root_dir=folder,
            accelerator=device.type,
            devices=1,
            max_epochs=1,
            limit_train_batches=BATCHES,
            logger=TensorBoardLogger(folder, default_hp_metric=False),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            profiler=Unprofiled(),
            callbacks=[watch, RankSeed(), StepProgress(), FiniteGuard(), ModelCheckpoint(), LastCheckpoint()],
        )
        trainer.fit(_model(latents, categories), datamodule=data)
    return watch.wall, watch.cpu


_WAYS = {"plain PyTorch loop": _loop, "bare module in a bare Trainer": _bare, "Trainer": _fit}
