"""What the Trainer adds to an optimiser step of the smallest model: raw loop, chunks, one step at a time.

Every way takes enough steps for its share of validations and checkpoints to be in its time, set-up is left out.
"""

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from ils_lightning.bench.section import Advance, Row, Section
from ils_lightning.bench.timing import Timing
from ils_lightning.callbacks import FiniteGuard, LastCheckpoint, RankSeed, StepProgress
from ils_lightning.data import TrueDistribution
from ils_lightning.estimators import ILS
from ils_lightning.losses import ExpectedKL
from ils_lightning.modules import CategoricalFit
from ils_lightning.unprofiled import Unprofiled

STEPS = 500
FEW = 50  # of the slowest way, which does nothing but step
RAW = "raw PyTorch loop"

Way = Callable[[str], tuple[float, float]]
"""Takes a folder; returns wall and processor seconds a step."""


class ByBackward(CategoricalFit):
    """Differentiates every step, as several ranks or an estimator with weights of its own make it do."""

    def _gradient_step(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return self._backward()


class Bare(LightningModule):
    """The raw loop's step as the least that Lightning takes."""

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.estimator = torch.nn.Parameter(torch.rand(5, 5)), ILS()
        self.loss = ExpectedKL().at(TrueDistribution().p)

    def training_step(self, batch: Any) -> torch.Tensor:
        """The loss of one step."""
        del batch
        return self.estimator(self.logits.unsqueeze(-2), lambda z: self.loss(z)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """That of the raw loop."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Watch(Callback):
    """Notes wall and processor time of training, validation and checkpoints inside, set-up outside."""

    def on_train_start(self, *_: Any) -> None:
        self.begun = time.perf_counter(), time.process_time()

    def on_train_end(self, *_: Any) -> None:
        self.wall, self.cpu = time.perf_counter() - self.begun[0], time.process_time() - self.begun[1]


def run(repeats: int, device: torch.device, advance: Advance) -> list[Section]:
    """Times every way in turns, after a turn that warms up."""
    del device  # a step this small runs on the host
    found = {name: Timing([], []) for name in _WAYS}
    for turn in range(repeats + 1):
        for name, way in _WAYS.items():
            with quiet_in_a_folder() as folder:
                wall, cpu = way(folder)
            if turn:
                found[name].wall.append(wall)
                found[name].cpu.append(cpu)
            advance(f"turn {turn} of {repeats}, {name}")
    rows: list[Row] = []
    for name, timing in found.items():
        row: Row = {"way": name, "microseconds a step": timing.seconds() * 1e6}
        rows.append(row | {"to raw": timing.ratio(found[RAW]), "cpu, to raw": timing.ratio(found[RAW], "cpu")})
    title = "one optimiser step of the categorical toy: ILS, 5 trials of 5 categories"
    note = "the Trainer with TensorBoard, progress bar, checkpoints, guards, validation every 500 steps; no pictures"
    return [Section("steps", title, rows, note=note)]


def _raw(folder: str) -> tuple[float, float]:
    """Forward, backward and step by hand, without any log."""
    del folder
    estimator, loss = ILS(), ExpectedKL().at(TrueDistribution().p)
    logits = torch.nn.Parameter(torch.rand(5, 5))
    optimizer = torch.optim.SGD([logits], lr=0.01)

    def f(z: torch.Tensor) -> torch.Tensor:
        return loss(z)

    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(STEPS):
        optimizer.zero_grad()
        estimator(logits.unsqueeze(-2), f).sum().backward()
        optimizer.step()
    return (time.perf_counter() - wall) / STEPS, (time.process_time() - cpu) / STEPS


def _everything(module: CategoricalFit, folder: str) -> tuple[float, float]:
    """Through the Trainer with all that the command line switches on."""
    best = ModelCheckpoint(monitor="val/kl", filename="best")
    return _fit(
        module,
        folder,
        STEPS,
        [RankSeed(), StepProgress(), FiniteGuard(), best, LastCheckpoint()],
        profiler=Unprofiled(),
        val_check_interval=STEPS // module.chunk,
        check_val_every_n_epoch=None,
        log_every_n_steps=1 if module.chunk > 1 else 50,
    )


def _fit(
    module: CategoricalFit, folder: str, steps: int, callbacks: Sequence[Callback] = (), **options: Any
) -> tuple[float, float]:
    watch = Watch()
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=steps,
        logger=TensorBoardLogger(folder, default_hp_metric=False),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[watch, *callbacks],
        **options,
    )
    trainer.fit(module, datamodule=TrueDistribution())
    return watch.wall / steps, watch.cpu / steps


def bare(module: LightningModule, batches: Any, **options: Any) -> tuple[float, float]:
    """Fits in a Trainer with everything off; returns its wall and processor seconds."""
    watch = Watch()
    trainer = Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watch],
        **options,
    )
    trainer.fit(module, batches)
    return watch.wall, watch.cpu


def _bare(folder: str) -> tuple[float, float]:
    del folder
    wall, cpu = bare(Bare(), [0] * STEPS, accelerator="cpu", max_epochs=1)
    return wall / STEPS, cpu / STEPS


_WAYS: dict[str, Way] = {
    RAW: _raw,
    "bare module in a bare Trainer": _bare,
    "chunks of 100": lambda folder: _everything(CategoricalFit(ILS(), chunk=100), folder),
    "chunks of 100, manual_backward": lambda folder: _everything(ByBackward(ILS(), chunk=100), folder),
    "one step at a time": lambda folder: _everything(CategoricalFit(ILS(), chunk=1), folder),
    "Trainer's defaults": lambda folder: _fit(CategoricalFit(ILS(), chunk=1), folder, FEW, log_every_n_steps=1),
}


@contextmanager
def quiet_in_a_folder() -> Iterator[str]:
    """A folder for one run, and none of the Trainer's greetings and bars on the screen."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), StringIO() as nowhere:
            warnings.simplefilter("ignore")
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield folder
    finally:
        logger.setLevel(level)
