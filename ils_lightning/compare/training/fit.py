"""Trains one job through the Trainer, tests it, and says what came out as plain data."""

import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities.model_helpers import is_overridden

from ils_lightning.callbacks import LastCheckpoint, RankSeed, Resumption
from ils_lightning.checkpoint_io import set_aside, use_complete_checkpoints
from ils_lightning.compare.training.evaluations import CountedOptions
from ils_lightning.compare.training.job import Job
from ils_lightning.compare.training.last_metrics import LastMetrics
from ils_lightning.compare.training.stopwatch import Stopwatch
from ils_lightning.compare.training.training_loss import TrainingLoss
from ils_lightning.data import TrueDistribution
from ils_lightning.describe import create
from ils_lightning.errors import Refusal, is_of_the_disk
from ils_lightning.modules.protocols import has_curve
from ils_lightning.trainer_options import refusing_trainers, require_sensible, tell_what_it_refuses

Result = dict[str, Any]


def train(job: Job, advance: Callable[[float], None]) -> Result:
    """Trains and tests a job on one thread and keeps its result; returns it.

    A `Refusal` (the estimator is not defined for the problem) is a result as well, with the message under
    "failed". Any other error is returned likewise, but not kept: the next start tries again. One of the disk is raised:
    no other job could keep its result either.

    Args:
        job: what to train.
        advance: called with the share of the fit that is newly done.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch(advance)
    try:
        with _quiet(), _one_thread():
            result = _fit_and_test(job, watch)
    except Refusal as error:
        result = {"failed": " ".join(str(error).split()).removeprefix(f"{LightningModule.__name__}: ")}
    except Exception as error:
        if is_of_the_disk(error):
            raise
        (job.folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())} (error.txt in {job.folder.name})"}
    finally:
        watch.finish()
    job.keep(result)
    return result


def make(config: dict) -> tuple[LightningModule, LightningDataModule]:
    """Makes model and data of a configuration, from its seed."""
    seed_everything(config["seed_everything"], verbose=False)
    return create(config["model"], LightningModule), create(config["data"], LightningDataModule)


def _fit_and_test(job: Job, watch: Stopwatch) -> Result:
    trainer, logged, counted, recorder = _fitted(job, watch)
    model: Any = trainer.lightning_module
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    steps, values = recorder.curve()
    metrics = logged.values
    if is_overridden("test_step", model, LightningModule) and is_overridden(
        "test_dataloader", data, LightningDataModule
    ):
        seed_everything(job.seed, verbose=False)  # the same noise for all runs, and for a resumed one
        trainer.test(model, datamodule=data, verbose=False)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    spent = counted.spent(model, data, watch.steps)
    return {
        "steps": steps,
        "values": values,
        "times": watch.at(steps),
        "tracked": tuple(recorder.tracked),
        "metrics": metrics,
        "optimizer_steps": watch.steps,
        "seconds": watch.seconds,
        "evaluations": spent.a_step,
        "spent": spent.at(steps),
        **({"p": data.p.clone()} if isinstance(data, TrueDistribution) else {}),
    }


def _fitted(job: Job, watch: Stopwatch) -> tuple[Trainer, LastMetrics, CountedOptions, Any]:
    """Fits from the last checkpoint; from the start where there is none, or none that can be restored.

    Returns the Trainer, what was logged last, how often was drawn, and what recorded the curve.
    """
    last = job.folder / "last.ckpt"
    if last.exists():
        try:
            return _fitted_from(last, job, watch)
        except Exception as error:
            if (is_of_the_disk(error) and not last.is_dir()) or watch.started:
                raise
            set_aside(last, error, "the training begins anew")
            watch.load_state_dict(Stopwatch(watch.advance).state_dict())
    return _fitted_from(None, job, watch)


def _fitted_from(
    checkpoint: Path | None, job: Job, watch: Stopwatch
) -> tuple[Trainer, LastMetrics, CountedOptions, Any]:
    model, data = make(job.config)
    logged, counted = LastMetrics(), CountedOptions()
    own: list[Callback] = [] if has_curve(model) else [TrainingLoss()]
    trainer = _trainer(job, [Resumption(), RankSeed(), watch, logged, counted, *own, LastCheckpoint(job.folder)])
    with _interruptible():
        trainer.fit(model, datamodule=data, ckpt_path=str(checkpoint) if checkpoint else None)
    return trainer, logged, counted, own[0] if own else model


def make_trainer(options: dict[str, Any]) -> Trainer:
    """Makes a silent Trainer with these options.

    Raises:
        ValueError: when they are at fault.
    """
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {**options, **quiet, "enable_checkpointing": False}
    with _quiet(), refusing_trainers():
        trainer = create({"class_path": "lightning.Trainer", "init_args": options}, Trainer)
    require_sensible(trainer)
    if trainer.world_size > 1 or isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise Refusal(
            "a comparison trains each run in one process on one device, and several runs at a time by --workers; given "
            f"devices: {options.get('devices')}, strategy: {options.get('strategy')}, num_nodes: {trainer.num_nodes}"
        )
    return trainer


def _trainer(job: Job, callbacks: list[Callback]) -> Trainer:
    trainer: Any = make_trainer(job.config["trainer"])
    use_complete_checkpoints(trainer)
    tell_what_it_refuses(trainer)
    trainer.callbacks.extend(callbacks)
    return trainer


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ends the comparison where Lightning, interrupted, would end the process with a status."""
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread, so that a result does not depend on how many workers share the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """One bar for the comparison instead of Lightning's greeting for each run."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                "LeafSpec",
                "does not have many workers",
                "number of training batches",
                "srun. command is available",  # asked of Lightning where an array of SLURM tasks is submitted
                "Checkpoint directory",
                "Total length of `list`",  # data without validation images
            ):
                warnings.filterwarnings("ignore", message=f".*{message}.*")
            yield
    finally:
        logger.setLevel(level)
