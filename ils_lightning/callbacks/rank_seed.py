"""Random streams of a run: different on every rank, untouched by validation, continued by a resumed run."""

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from ils_lightning.errors import Refusal
from ils_lightning.estimators.distributed import of_all_ranks

_KEY = "random_states"


class RankSeed(Callback):
    """Gives every rank its own stream of random numbers, and checkpoints the state of each.

    Seeding alone gives all ranks the same draws, so that averaging gradients over ranks averages nothing. From the
    start of fit on, the torch seed is the run's seed plus the rank. Validation leaves the training stream as it found
    it, so how often one validates does not change the run.
    """

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None
        self._kept: dict[str, Any] | None = None
        self._after_step: torch.Tensor | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the rank to the seed; the first rank's stream stays as it is."""
        if trainer.global_rank:
            torch.manual_seed(torch.initial_seed() + trainer.global_rank)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Saves the states of all ranks, in their order."""
        checkpoint[_KEY] = of_all_ranks(random_state() if self._resumed is None else self._resumed)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps the state of this rank until training starts; another number of ranks starts new streams.

        Raises:
            ValueError: when what the checkpoint holds is no state of random streams.
        """
        states = checkpoint.get(_KEY, [])
        for state in states if isinstance(states, list) else [states]:
            _require_state(state)
        self._resumed = states[trainer.global_rank] if len(states) == trainer.world_size else None
        if self._resumed is None and trainer.state.fn == TrainerFn.FITTING:
            rank_zero_info(
                f"note: the checkpoint holds random streams of {len(states)} ranks, this run has {trainer.world_size}: "
                "it starts new ones, and will differ from the run without interruption"
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Continues the saved stream before the first step of a resumed run."""
        self._continue()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continues the saved stream where no step was left of the epoch."""
        self._continue()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continues the saved stream for a test that follows, where nothing was left to train."""
        self._continue()

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes torch's state before the validation that precedes training."""
        self._after_step = torch.get_rng_state()

    def on_train_batch_end(self, *_: Any) -> None:
        """Notes torch's state: validation draws from it (a seed for its loader) before it is said to start."""
        self._after_step = torch.get_rng_state()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the state of the training stream."""
        self._kept = None if self._after_step is None else random_state() | {"torch": self._after_step}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on with the training stream."""
        if self._kept is not None:
            restore(self._kept)
            self._kept = None

    def _continue(self) -> None:
        if self._resumed is not None:
            restore(self._resumed)
            self._resumed = None


def random_state() -> dict[str, Any]:
    """Returns the states of torch's, numpy's and Python's generators as plain data and tensors."""
    _, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": (torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(position), int(has_gauss), float(gauss)),
        "python": random.getstate(),
    }


def _require_state(state: Any) -> None:
    """Tries a state on generators that nothing else uses.

    Raises:
        ValueError: when it is none.
    """
    try:
        torch.Generator().set_state(state["torch"].cpu())
        np.random.RandomState().set_state(_numpy_state(state))
        random.Random().setstate(_python_state(state))
        if not all(isinstance(cuda, torch.Tensor) for cuda in state["cuda"]):
            raise TypeError(f"states of accelerators must be tensors; given {state['cuda']}")
    except Exception as error:  # each generator has its own complaints
        reason = type(error).__name__
        raise Refusal(f"the {_KEY} in the checkpoint are not the states of random streams ({reason})") from None


def restore(state: dict[str, Any]) -> None:
    """Puts back what `random_state` returned."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([cuda.cpu() for cuda in state["cuda"]])
    np.random.set_state(_numpy_state(state))
    random.setstate(_python_state(state))


def _numpy_state(state: dict[str, Any]) -> tuple[Any, ...]:
    keys, position, has_gauss, gauss = state["numpy"]
    return "MT19937", keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss


def _python_state(state: dict[str, Any]) -> tuple[Any, ...]:
    version, internal, gauss_next = state["python"]
    return version, tuple(internal), gauss_next
