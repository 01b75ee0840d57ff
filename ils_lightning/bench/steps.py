"""What the Trainer adds to an optimiser step of the smallest model: raw loop, chunks, one step at a time."""

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from ils_lightning.bench.section import Advance, Row, Section
from ils_lightning.bench.timing import Timing
from ils_lightning.callbacks import Figures, FiniteGuard, LastCheckpoint, RankSeed, StepProgress
from ils_lightning.data import TrueDistribution
from ils_lightning.estimators import ILS, ReinMax
from ils_lightning.losses import ExpectedKL
from ils_lightning.modules import CategoricalFit

STEPS = 1000
RAW = "raw PyTorch loop"


class Watch(Callback):
    """Notes wall and processor time of training, validation and checkpoints inside, set-up outside."""

    def on_train_start(self, *_: Any) -> None:
        self.begun = time.perf_counter(), time.process_time()

    def on_train_end(self, *_: Any) -> None:
        self.wall, self.cpu = time.perf_counter() - self.begun[0], time.process_time() - self.begun[1]


def run(repeats: int, device: torch.device, advance: Advance) -> list[Section]:
    """Times `STEPS` steps of every way in turns."""
    del device  # a step this small runs on the host
    rows: list[Row] = []
    for make in (ILS, ReinMax):
        ways = _ways(make)
        found = {name: Timing([], []) for name in ways}
        for turn in range(max(repeats // 6, 1) + 1):
            for name, way in ways.items():
                with quiet_in_a_folder() as folder:
                    wall, cpu = way(folder)
                if turn:  # the first warms up
                    found[name].wall.append(wall / STEPS)
                    found[name].cpu.append(cpu / STEPS)
            advance(f"{make.__name__}, turn {turn}")
        for name, timing in found.items():
            row: Row = {"estimator": make.__name__, "way": name, "microseconds a step": timing.seconds() * 1e6}
            row |= {"to raw": timing.ratio(found[RAW]), "cpu, to raw": timing.ratio(found[RAW], "cpu")}
            rows.append(row)
    title = "one optimiser step of the categorical toy, 5 trials of 5 categories"
    note = "the Trainer with TensorBoard, progress bar, checkpoints, pictures, guards, validation every 1,000 steps"
    return [Section("steps", title, rows, note=note)]


def _ways(make: Callable[[], Any]) -> dict[str, Callable[[str], tuple[float, float]]]:
    return {
        RAW: lambda folder: _raw(make),
        "chunks of 100": lambda folder: _fit(make, folder, chunk=100),
        "one step at a time": lambda folder: _fit(make, folder, chunk=1),
        "Trainer's defaults": lambda folder: _fit(make, folder, chunk=1, plain=True),
    }


def _raw(make: Callable[[], Any]) -> tuple[float, float]:
    """Forward, backward and step by hand, without any log."""
    estimator, loss = make(), ExpectedKL()
    logits = torch.nn.Parameter(torch.rand(5, 5))
    optimizer = torch.optim.SGD([logits], lr=0.01)
    p = TrueDistribution().p

    def f(z: torch.Tensor) -> torch.Tensor:
        return loss(z, p)

    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(STEPS):
        optimizer.zero_grad()
        estimator(logits.unsqueeze(-2), f).sum().backward()
        optimizer.step()
    return time.perf_counter() - wall, time.process_time() - cpu


def _fit(make: Callable[[], Any], folder: str, chunk: int, plain: bool = False) -> tuple[float, float]:
    """Through the Trainer with all that the command line switches on, or with nothing but its defaults."""
    watch = Watch()
    best = ModelCheckpoint(monitor="val/kl", filename="best")
    ours = [RankSeed(), StepProgress(), FiniteGuard(), Figures(), best, LastCheckpoint()]
    options: dict[str, Any] = {"val_check_interval": 1000 // chunk, "check_val_every_n_epoch": None}
    logger = TensorBoardLogger(folder, default_hp_metric=False)
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=STEPS,
        logger=logger,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1 if chunk > 1 or plain else 50,
        callbacks=[watch, *([] if plain else ours)],
        **({} if plain else options),
    )
    trainer.fit(CategoricalFit(make(), chunk=chunk), datamodule=TrueDistribution())
    return watch.wall, watch.cpu


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
