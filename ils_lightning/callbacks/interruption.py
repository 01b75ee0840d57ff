"""Requests to end a run, by Ctrl-C or the signal TERM, kept until the run can be left."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_info


class Interruption:
    """Listens for Ctrl-C (INT) and TERM; the second Ctrl-C is a KeyboardInterrupt at once.

    Under SLURM, TERM belongs to Lightning, which may put the job back into the queue.
    """

    def __init__(self) -> None:
        self.requested = False
        self._former: dict[int, Any] = {}

    def listen(self) -> None:
        """Takes over the signals, in the main thread, where Python handles them."""
        self.requested = False
        if threading.current_thread() is not threading.main_thread() or self._former:
            return
        for number in (signal.SIGINT, *([] if "SLURM_JOB_ID" in os.environ else [signal.SIGTERM])):
            self._former[number] = signal.signal(number, self._note)

    def ignore(self) -> None:
        """Gives the signals back."""
        while self._former:
            signal.signal(*self._former.popitem())

    def on_any_rank(self, trainer: Trainer) -> bool:
        """Whether any rank was asked to end; all ranks must ask together."""
        if trainer.world_size == 1:
            return self.requested
        return trainer.strategy.reduce_boolean_decision(self.requested, all=False)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        rank_zero_info("\nfinishing the step, then saving; Ctrl-C again ends at once, without saving")
