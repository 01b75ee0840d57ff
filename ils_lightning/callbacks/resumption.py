"""What Lightning leaves out of checkpoints and of the first epoch after a restart."""

from collections.abc import Iterator
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch.optim import Optimizer

from ils_lightning.errors import Refusal

_OF_SCHEDULERS = ("initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum")
"""Options that learning-rate schedulers add to those of an optimiser."""


class Resumption(Callback):
    """Lets a resumed run be the uninterrupted one where a metric decides: `ReduceLROnPlateau`, early stopping.

    Lightning keeps no metrics, so that what was measured before a restart is unknown after it. It updates schedulers
    that follow a metric after the checkpoint of that metric is written, and leaves out the update of the first epoch
    after a restart. Here the metrics are kept, and the updates that were left out are made before the next step.

    A resumed run that has another optimiser than its checkpoint is refused: it would go on with the state of neither.
    One says where it goes on from.

    Attributes:
        step: optimiser steps of the checkpoint that a fit goes on from; None of one that begins anew.

    Example:
        >>> Resumption().state_dict()
        {'metrics': {}, 'due': {}, 'optimizers': []}
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self._metrics: dict[str, Any] = {}
        self._checkpoint: dict[str, Any] = {}
        self._optimizers: list[str] = []
        self._due: dict[int, int] = {}  # updates so far of schedulers that are to be updated before the next step
        self._makes_up = self._is_within_epoch = False
        self._trainer: Trainer | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps the checkpoint until the optimisers that it is for are made.

        Raises:
            ValueError: when a run is to go on from it and it does not say where that one was.
        """
        if trainer.state.fn == "fit":
            _require_place(checkpoint)
            self.step = checkpoint["global_step"]
        self._checkpoint = checkpoint

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks that the checkpoint's optimisers are those of this run, before their states are restored."""
        checkpoint, self._checkpoint = self._checkpoint, {}
        if "optimizer_states" in checkpoint:
            _require_same(trainer.optimizers, checkpoint["optimizer_states"], self._optimizers)
        states = checkpoint.get("lr_schedulers", [])
        if not isinstance(states, list):
            raise Refusal(f"the checkpoint's lr_schedulers must be a list of their states; given {states!r}")
        saved, here = len(states), len(trainer.lr_scheduler_configs)
        if checkpoint and saved < here:
            rank_zero_info(
                f"note: the checkpoint holds the states of {saved} learning-rate schedulers, this run has {here}: "
                "what it does not hold begins anew"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on with the metrics of the checkpoint; does not go on where they had ended the run."""
        self._trainer = trainer
        trainer.should_stop |= any(one.stopping_reason.value for one in trainer.early_stopping_callbacks)
        trainer.callback_metrics.update(self._metrics)
        self._is_within_epoch = trainer.fit_loop.restarting and trainer.fit_loop.restarted_mid_epoch
        if self.step is not None and not trainer.should_stop:
            rank_zero_info(f"note: training goes on after step {self.step:,}, in epoch {trainer.current_epoch + 1:,}")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes up for updates that follow an epoch."""
        self._make_up(trainer)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Makes up for updates that follow a step, and for what callbacks leave to the start of an epoch."""
        self._make_up(trainer)
        if self._is_within_epoch:
            self._is_within_epoch = False
            _go_on_within_epoch(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Notes updates that follow this step: checkpoints may be written before them."""
        if not trainer.fit_loop._should_accumulate():
            self._note(trainer, "step", trainer.fit_loop.epoch_loop.batch_idx + 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes updates that follow this epoch, which Lightning leaves out after a restart."""
        if trainer.fit_loop.epoch_loop._num_ready_batches_reached():
            self._note(trainer, "epoch", trainer.current_epoch + 1)
            self._makes_up |= trainer.fit_loop.restarting

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes up for updates that follow the last epoch."""
        self._make_up(trainer)

    def state_dict(self) -> dict[str, Any]:
        if self._trainer is not None:
            self._metrics = {name: value.detach().cpu() for name, value in self._trainer.callback_metrics.items()}
            self._optimizers = [type(one).__name__ for one in self._trainer.optimizers]
        return {"metrics": self._metrics, "due": dict(self._still_due()), "optimizers": self._optimizers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._metrics, self._due, self._makes_up = dict(state_dict["metrics"]), dict(state_dict["due"]), True
        self._optimizers = list(state_dict["optimizers"])

    def _note(self, trainer: Trainer, interval: str, count: int) -> None:
        for number, config in _followers(trainer):
            if config.interval == interval and count % config.frequency == 0:
                self._due[number] = _updates(config)

    def _still_due(self) -> Iterator[tuple[int, int]]:
        """Those of the noted updates that were not made since."""
        configs = dict(_followers(self._trainer)) if self._trainer is not None else {}
        for number, made in self._due.items():
            if number in configs and _updates(configs[number]) == made:
                yield number, made

    def _make_up(self, trainer: Trainer) -> None:
        """Makes the updates that a restart left out."""
        progress = trainer.fit_loop.epoch_loop.scheduler_progress
        for number, _ in list(self._still_due()) if self._makes_up else []:
            config: Any = trainer.lr_scheduler_configs[number]
            if (value := trainer.callback_metrics.get(config.monitor or "")) is not None:
                progress.increment_ready()
                trainer.lightning_module.lr_scheduler_step(config.scheduler, value)
                progress.increment_completed()
        self._due, self._makes_up = {}, False


def nothing_left(trainer: Trainer) -> str:
    """Says why a fit that went on from a checkpoint trained no step; nothing where it did, or began anew."""
    step, most = trainer.global_step, trainer.max_steps
    resumed = [one for one in trainer.callbacks if isinstance(one, Resumption)]  # pyright: ignore[reportAttributeAccessIssue]
    if not any(one.step == step for one in resumed):
        return ""
    why, epochs = "where its run was ended early; begin a new one", trainer.max_epochs
    if 0 <= most <= step:
        why = f"trainer.max_steps {most:,}; give more"
    elif epochs is not None and 0 <= epochs <= trainer.current_epoch:
        why = f"at the end of epoch {trainer.current_epoch:,}, trainer.max_epochs {epochs:,}; give more"
    told = f"nothing left to train: the checkpoint is at step {step:,}, {why}"
    return f"{told}, or measure it as it is by test --ckpt_path {trainer.ckpt_path}"


def _go_on_within_epoch(trainer: Trainer) -> None:
    """Does what callbacks leave to the start of an epoch, or says which of them do not go on within one."""
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, GradientAccumulationScheduler):
            callback.on_train_epoch_start(trainer)
        if isinstance(callback, StochasticWeightAveraging):
            rank_zero_info(
                "note: StochasticWeightAveraging does not go on within an epoch as the uninterrupted run would; from a "
                "checkpoint at the end of an epoch it does"
            )


def _followers(trainer: Trainer) -> Iterator[tuple[int, LRSchedulerConfig]]:
    """The schedulers that follow a metric, by their number."""
    for number, config in enumerate(trainer.lr_scheduler_configs):
        if config.reduce_on_plateau:
            yield number, config


def _updates(config: LRSchedulerConfig) -> int:
    """How often a scheduler was updated."""
    return getattr(config.scheduler, "last_epoch", 0)


def _require_place(checkpoint: dict[str, Any]) -> None:
    """Checks that a checkpoint says where its run was: without, Lightning counts from 0 on weights that are trained."""
    for name in ("epoch", "global_step"):
        if not isinstance(count := checkpoint.get(name), int) or not 0 <= count < 2**63:
            raise Refusal(f"the checkpoint's {name} must be a whole number of at least 0; given {count!r}")
    loops = checkpoint.get("loops")
    if not isinstance(loops, dict) or not isinstance(loops.get("fit_loop"), dict):
        raise Refusal(
            "the checkpoint does not say where its run was (it has no loops.fit_loop), so no fit can go on from it; "
            "test, predict and diagnose can read it"
        )


def _require_same(optimizers: list[Optimizer], states: Any, names: list[str]) -> None:
    """Raises a ValueError where the states in a checkpoint are those of other optimisers."""
    here = [type(one).__name__ for one in optimizers]
    if not isinstance(states, list) or len(states) != len(here):
        raise Refusal(
            f"the checkpoint must hold the state of {' and of '.join(here)} to go on with; its optimizer_states are "
            f"{states if not states else f'{len(states)} states'}"
        )
    foreign = any(_unknown_options(one, state) for one, state in zip(optimizers, states, strict=True))
    if foreign or names not in ([], here):
        raise Refusal(
            f"the checkpoint holds the state of {' and of '.join(names) or 'another optimiser'}, but this run has "
            f"{' and '.join(here)}: keep the optimiser, or begin a new run without --ckpt_path"
        )


def _unknown_options(optimizer: Optimizer, state: Any) -> set[str]:
    """The options in a saved state that this optimiser does not have."""
    if not isinstance(state, dict) or not isinstance(state.get("param_groups"), list):
        raise Refusal(f"the state of {type(optimizer).__name__} in the checkpoint must hold param_groups")
    saved = {name for group in state["param_groups"] for name in group}
    return saved - {"params", "name", "param_names", *optimizer.defaults, *_OF_SCHEDULERS}
