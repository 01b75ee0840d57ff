"""Kills one rank of a fit, or both, at random moments: the other has to end by itself, and the fit goes on."""

import os
import random
import signal
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kills import VAE, command, fit, newest
from lightning.pytorch.strategies.launchers import subprocess_script

RANKS = [*VAE, "--trainer.strategy=ddp", "--trainer.devices=2"]
PATIENCE = 60.0
"""Seconds after which a rank that has lost the other has to have ended."""


def members(group: int) -> list[int]:
    """Processes of a group, the first rank first; those that have ended and were not waited for do not count."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, owner, *_ = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(owner) == group and state != "Z":
            found.append(int(status.parent.name))
    return sorted(found)


def ranks(folder: Path, moments: list[float]) -> dict[str, Any]:
    """Fits on two ranks, one of which (or both) is killed at each of `moments`; returns the last checkpoint."""
    chance = random.Random(str(moments))

    def run(moment: float | None, words: list[str], folder: Path) -> None:
        start_ranks(words, folder, moment, chance)

    return fit(RANKS, folder, moments, run)


def start_ranks(words: list[str], folder: Path, moment: float | None, chance: random.Random) -> None:
    """Runs a command and kills one of its processes, or all, after `moment` seconds; all have to end."""
    process = get_context("fork").Process(target=_run_ranks, args=(words, folder))
    process.start()
    assert process.pid is not None
    while moment is not None and process.is_alive() and newest(folder) is None:
        process.join(0.02)
    process.join(moment)
    if process.is_alive():
        alive = members(process.pid)
        for victim in alive if chance.random() < 0.25 else [chance.choice(alive)]:
            os.kill(victim, signal.SIGKILL)
    ends = time.monotonic() + PATIENCE
    while alive := members(process.pid):
        if time.monotonic() > ends:
            os.killpg(process.pid, signal.SIGKILL)
            raise RuntimeError(f"{len(alive)} rank(s) still ran {PATIENCE} s after a kill at {moment} s, in {folder}")
        process.join(0.05)
    process.join()
    if process.exitcode != 0 and moment is None:
        raise RuntimeError(f"exit status {process.exitcode}: {(folder / 'output.txt').read_text()[-2000:]}")


def _run_ranks(words: list[str], folder: Path) -> None:
    """Is the first rank; the strategy ddp gets a fork for the process that it starts by its command line."""
    os.setsid()
    started = SimpleNamespace(Popen=partial(Fork, words, folder))
    subprocess_script.subprocess = started  # pyright: ignore[reportPrivateImportUsage]
    command(words, folder)


class Fork:
    """As much of a `Popen` as Lightning uses."""

    def __init__(self, words: list[str], folder: Path, line: list[str], env: dict[str, str], **_: Any) -> None:
        assert line[-len(words) :] == words
        self.pid, self.args, self.returncode = os.fork(), line, None
        if not self.pid:
            try:
                os.environ.clear()
                os.environ.update(env)
                command(words, folder)
                os._exit(0)
            finally:
                os._exit(1)

    def poll(self) -> int | None:
        if self.returncode is None and (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.returncode = os.waitstatus_to_exitcode(found[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)
