"""The checkpoint to resume from."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.call import _call_lightning_module_hook
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from ils_lightning.callbacks.interruption import Ended, Interruption


class LastCheckpoint(ModelCheckpoint):
    """Keeps last.ckpt: after every validation, else after every epoch; when training ends, and when it is interrupted.

    A validation amid an accumulation of gradients is saved with the optimiser step that follows: the gradient added so
    far is in no checkpoint. Ctrl-C, or the signals TERM and HUP, let all ranks finish the optimiser step (or the
    validation) they are in; then the state is saved and the run ends. What a checkpoint says of other files is not
    read: nothing but last.ckpt is ever replaced.

    Args:
        dirpath: folder; that of the run's logs unless given.
    """

    def __init__(self, dirpath: Path | None = None) -> None:
        # left to itself Lightning saves at the end of epochs, where this class saves only what no validation saved
        super().__init__(dirpath, filename="last", enable_version_counter=False, save_on_train_epoch_end=False)
        self._interruption = Interruption()
        self._step, self._epoch_ends, self._is_owed = 0, False, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to listen for signals."""
        super().on_train_start(trainer, pl_module)
        self._epoch_ends = self._is_owed = False
        self._interruption.listen()

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Notes the step, to tell a batch that ends one from a batch whose gradient is still added to others'."""
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        """Saves what a validation left to the step that ends here; saves and ends the run if that was asked."""
        super().on_train_batch_end(trainer, pl_module, *arguments)
        if trainer.global_step == self._step or trainer.fit_loop.epoch_loop._num_ready_batches_reached():
            return  # Lightning, resumed from the last batch of an epoch, leaves out what follows it
        if self._interruption.on_any_rank(trainer) and not _is_validated_next(trainer):
            # what Lightning does once all callbacks are through, and a resumed run does not make up for
            _call_lightning_module_hook(trainer, "on_train_batch_end", *arguments)
            trainer._logger_connector.on_batch_end()
            trainer._logger_connector.update_train_step_metrics()
            self._end(trainer)
        if self._is_owed:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves, and ends the run if that was asked."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if trainer.fit_loop._should_accumulate() or _ends_an_epoch_by_chance(trainer) or _at_last_step(trainer):
            self._is_owed = True
            return
        super().on_validation_end(trainer, pl_module)
        if self._interruption.on_any_rank(trainer):
            self._end(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the state in which training ends, that of each epoch where nothing is validated, and what is owed."""
        self._epoch_ends = True
        if self._interruption.on_any_rank(trainer):
            self._end(trainer)
        if self._is_owed or _is_over(trainer) or not _validates(trainer):
            self._save(trainer)
        self._epoch_ends = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Counts the epoch that is ending, so that a run may go on with the next, or as unfinished if it is cut short.

        Lightning, resumed at the end of an epoch with `max_steps` set, counts that epoch twice and trains one less.
        """
        if not self._epoch_ends:
            return
        loop = checkpoint["loops"]["fit_loop"]
        batches = loop["epoch_loop.batch_progress"]
        for epoch in loop["epoch_progress"].values():
            if batches["is_last_batch"]:
                epoch["completed"] = epoch["processed"]
            else:
                epoch["processed"] = epoch["completed"]
        if batches["is_last_batch"]:
            batches["current"] = dict.fromkeys(batches["current"], 0)
            batches["is_last_batch"] = False

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the file is where this run keeps it, whatever a checkpoint says."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Believes no path: the files of an earlier run are not this run's to remove."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the signals to others."""
        self._interruption.ignore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves the signals to others."""
        self._interruption.ignore()

    def _end(self, trainer: Trainer) -> None:
        path = self._save(trainer)
        rank_zero_info(f"stopped after optimiser step {trainer.global_step}; go on with --ckpt_path {path}")
        raise Ended

    def _save(self, trainer: Trainer) -> str:
        path = self.format_checkpoint_name({})
        trainer.save_checkpoint(path, weights_only=self.save_weights_only)
        self._is_owed = False
        return path


def _is_validated_next(trainer: Trainer) -> bool:
    """Whether a validation follows the batch that ends: a run resumed from before it would leave it out."""
    fetcher: Any = trainer.fit_loop._data_fetcher
    return trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def _ends_an_epoch_by_chance(trainer: Trainer) -> bool:
    """Whether a validation every so many batches is at an epoch's last: Lightning, resumed there, trains on in it."""
    return trainer.check_val_every_n_epoch is None and trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def _validates(trainer: Trainer) -> bool:
    """Whether there is anything to validate: data may define validation and hold nothing for it."""
    return trainer.enable_validation and sum(trainer.num_val_batches) > 0


def _is_over(trainer: Trainer) -> bool:
    """Whether training ends with the epoch that is ending."""
    last_epoch = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch + 1
    return trainer.should_stop or _at_last_step(trainer) or last_epoch


def _at_last_step(trainer: Trainer) -> bool:
    """Whether no step is left: a validation here is saved with the end of training, not twice with unlike counters."""
    return 0 <= trainer.max_steps <= trainer.global_step
