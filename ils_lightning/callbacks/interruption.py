"""Requests to end a run, by Ctrl-C or the signals TERM and HUP, kept until the run can be left."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_info


class Ended(KeyboardInterrupt):
    """A run ends as it was asked to, and has said so."""


class Interruption:
    """Listens for Ctrl-C (INT), TERM and HUP; the second Ctrl-C is a KeyboardInterrupt at once.

    HUP, which a terminal that is closed sends, stays ignored where it is (nohup). Under SLURM, TERM belongs to
    Lightning, which may put the job back into the queue.
    """

    def __init__(self) -> None:
        self.requested = False
        self._former: dict[int, Any] = {}

    def listen(self) -> None:
        """Takes over the signals, in the main thread, where Python handles them."""
        self.requested = False
        if threading.current_thread() is not threading.main_thread() or self._former:
            return
        others = [number for number in endings() if number != signal.SIGTERM or "SLURM_JOB_ID" not in os.environ]
        for number in (signal.SIGINT, *others):
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


def endings() -> list[signal.Signals]:
    """The signals, beside that of Ctrl-C, that ask this process to end: those it does not ignore."""
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) not in (signal.SIG_IGN, None)]


@contextmanager
def ended_like_by_ctrl_c() -> Iterator[None]:
    """Raises a KeyboardInterrupt inside the block at the first TERM or HUP; later ones change nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        for one in former:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    former = {number: signal.getsignal(number) for number in endings()}
    for number in former:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
