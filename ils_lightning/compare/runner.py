"""Runs the grid through the Trainer, one folder a run; finished runs are skipped, interrupted ones resumed."""

import hashlib
import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ils_lightning.callbacks import RankSeed
from ils_lightning.compare.spec import Comparison, Run
from ils_lightning.data import DiscreteData, TrueDistribution
from ils_lightning.describe import create
from ils_lightning.modules import DiscreteModule


class _Advance(Callback):
    """Moves the comparison's progress bar by the optimiser steps taken."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self.progress, self.task, self.seen = progress, task, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen = 0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.progress.advance(self.task, trainer.global_step - self.seen)
        self.seen = trainer.global_step


class Runner:
    """Trains every run of a comparison.

    Args:
        comparison: the grid.
        folder: where runs are kept; results of finished runs are read from there.
    """

    def __init__(self, comparison: Comparison, folder: Path) -> None:
        self.comparison, self.folder = comparison, folder

    def run(self) -> list[dict]:
        """Trains what is not finished; returns one result for each run and seed, in the order of the file."""
        comparison, tune = self.comparison, self.comparison.tune
        tuning = (
            [(run, seed, {tune.key: v}) for run in comparison.runs for v in tune.candidates for seed in tune.seeds]
            if tune
            else []
        )
        for run in comparison.runs:
            self._check(run)
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        ) as progress:
            steps = comparison.configuration(comparison.runs[0], 0)["trainer"]["max_steps"]
            jobs = [run for run, *_ in tuning] + comparison.runs * len(comparison.seeds)
            count = sum(len(run.changes()) for run in jobs)
            self.progress, self.task = progress, progress.add_task("compare", total=count * steps)
            tuned = [self._one(*job) for job in tuning]
            jobs = [(run, seed, self._chosen(run, tuned)) for run in comparison.runs for seed in comparison.seeds]
            return [self._one(*job) for job in jobs]

    def _check(self, run: Run) -> None:
        """Makes a run's model and data, so that a mistake in the last one shows before the first one trains."""
        config = self.comparison.configuration(run, self.comparison.seeds[0])
        steps = config["trainer"].get("max_steps")
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"run {run.name!r}: trainer.max_steps must be a whole number of at least 1; given {steps}")
        try:
            create(config["data"], DiscreteData)
            model = create(config["model"], DiscreteModule)
        except ValueError as error:
            raise ValueError(f"run {run.name!r}: {error}") from None
        if model.tracked is None:
            raise ValueError(f"compare needs a model that records a curve; {type(model).__name__} records none")

    def _chosen(self, run: Run, tuned: list[dict]) -> dict[str, float]:
        """Returns the tuned key with the value whose plateau, averaged over tuning seeds, is lowest."""
        if self.comparison.tune is None:
            return {}
        plateaus: dict[float, list[float]] = {}
        for result in tuned:
            if result["run"] == run.name:
                value = next(iter(result["change"].values()))
                plateaus.setdefault(value, []).append(float(plateau(result["values"]).mean()))
        best = min(plateaus, key=lambda value: _finite_mean(plateaus[value]))
        if _finite_mean(plateaus[best]) == float("inf"):
            raise ValueError(
                f"run {run.name!r}: no candidate of {self.comparison.tune.key} gives a finite plateau; "
                f"tried {', '.join(f'{value:g}' for value in plateaus)}"
            )
        return {self.comparison.tune.key: best}

    def _one(self, run: Run, seed: int, change: dict[str, float]) -> dict:
        """Trains one run; settings that are runs by themselves are put side by side, as rows."""
        parts = [self._part(run, seed, {**change, **setting}) for setting in run.changes()]
        result = {**parts[0], "seconds": sum(part["seconds"] for part in parts)}
        if run.settings and not run.settings.shared:
            result["values"] = torch.stack([part["values"] for part in parts], dim=1)
        return {**result, "run": run.name, "seed": seed, "change": change}

    def _part(self, run: Run, seed: int, change: dict[str, float]) -> dict:
        """Trains one configuration unless its result is there already."""
        config = self.comparison.configuration(run, seed, change)
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
        folder = self.folder / f"{_slug(run.name)}-{seed}-{digest}"
        finished = folder / "result.pt"
        self.progress.update(self.task, description=f"{run.name}, seed {seed}")
        if finished.exists():
            self.progress.advance(self.task, config["trainer"]["max_steps"])
        else:
            _write(finished, self._train(config, folder))
        return torch.load(finished, weights_only=True)

    def _train(self, config: dict, folder: Path) -> dict:
        last = folder / "last.ckpt"
        checkpoint = ModelCheckpoint(folder, filename="last", enable_version_counter=False)
        callbacks = [RankSeed(), _Advance(self.progress, self.task), checkpoint]
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        options = {**config["trainer"], **quiet, "enable_checkpointing": False}
        with _quiet():
            seed_everything(config["seed_everything"], verbose=False)
            model = create(config["model"], DiscreteModule)
            data = create(config["data"], DiscreteData)
            trainer = create({"class_path": "lightning.Trainer", "init_args": options}, Trainer)
            trainer.callbacks.extend(callbacks)
            began = time.perf_counter()
            trainer.fit(model, datamodule=data, ckpt_path=str(last) if last.exists() else None)
        steps, values = model.curve()
        result = {"steps": steps, "values": values, "tracked": tuple(model.tracked)}
        if isinstance(data, TrueDistribution):
            result["p"] = data.p.clone()
        return {**result, "seconds": time.perf_counter() - began}


@contextmanager
def _quiet() -> Iterator[None]:
    """One bar for the comparison instead of Lightning's greeting for each run."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            yield
    finally:
        logger.setLevel(level)


def plateau(values: torch.Tensor) -> torch.Tensor:
    """Mean over the last fifth of the recorded points, `[*rows]`, of `values` `[points, *rows]`."""
    return values[-max(len(values) // 5, 1) :].mean(dim=0)


def _finite_mean(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return mean if mean == mean else float("inf")


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name).strip("_").lower()


def _write(target: Path, result: dict) -> None:
    """Puts a result in place only when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    torch.save(result, partial)
    partial.replace(target)
