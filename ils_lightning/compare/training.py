"""Trains one job through the Trainer, tests it, and says what came out as plain data."""

import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities.model_helpers import is_overridden

from ils_lightning.callbacks import LastCheckpoint, RankSeed
from ils_lightning.checkpoint_io import use_complete_checkpoints
from ils_lightning.cli.errors import is_of_the_disk
from ils_lightning.compare.job import Job
from ils_lightning.compare.last_metrics import LastMetrics
from ils_lightning.compare.stopwatch import Stopwatch
from ils_lightning.data import DiscreteData, TrueDistribution
from ils_lightning.describe import create
from ils_lightning.errors import Refusal
from ils_lightning.modules import DiscreteModule
from ils_lightning.trainer_options import refusing_trainers, require_sensible

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
        result = {"failed": " ".join(str(error).split()).removeprefix(f"{DiscreteModule.__name__}: ")}
    except Exception as error:
        if is_of_the_disk(error):
            raise
        (job.folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())} (error.txt in {job.folder.name})"}
    finally:
        watch.finish()
    job.keep(result)
    return result


def make(config: dict) -> tuple[DiscreteModule, DiscreteData]:
    """Makes model and data of a configuration, from its seed."""
    seed_everything(config["seed_everything"], verbose=False)
    model = create(config["model"], DiscreteModule)
    return model, create(config["data"], DiscreteData)


def _fit_and_test(job: Job, watch: Stopwatch) -> Result:
    model, data = make(job.config)
    logged = LastMetrics()
    trainer = _trainer(job, [RankSeed(), watch, logged, LastCheckpoint(job.folder)])
    last = job.folder / "last.ckpt"
    with _interruptible():
        trainer.fit(model, datamodule=data, ckpt_path=str(last) if last.exists() else None)
    steps, values = model.curve()
    metrics = logged.values
    if is_overridden("test_step", model, LightningModule) and is_overridden(
        "test_dataloader", data, LightningDataModule
    ):
        seed_everything(job.seed, verbose=False)  # the same noise for all runs, and for a resumed one
        trainer.test(model, datamodule=data, verbose=False)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {
        "steps": steps,
        "values": values,
        "times": watch.at(steps),
        "tracked": tuple(model.tracked or ()),
        "metrics": metrics,
        "optimizer_steps": watch.steps,
        "seconds": watch.seconds,
        "evaluations": _evaluations(model, data),
        **({"p": data.p.clone()} if isinstance(data, TrueDistribution) else {}),
    }


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
    return trainer


def _trainer(job: Job, callbacks: list[Callback]) -> Trainer:
    trainer: Any = make_trainer(job.config["trainer"])
    use_complete_checkpoints(trainer)
    trainer.callbacks.extend(callbacks)
    return trainer


def _evaluations(model: DiscreteModule, data: DiscreteData) -> float:
    """Rows of f evaluated in one optimiser step, by the first batch; NaN where the module poses no problem."""
    batch = next(iter(data.train_dataloader()))
    try:
        logits = model.problem(model.transfer_batch_to_device(batch, model.device, 0)).logits
    except NotImplementedError:
        return float("nan")
    return float(model.estimator.evaluations(*logits.shape[-2:]) * logits.shape[:-2].numel())


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
