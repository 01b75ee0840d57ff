"""Runs a command in a process of its own, and judges whether bad input was refused as it should be."""

import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch

from ils_lightning.cli import main

LONGEST = 950  # letters of a message
SECONDS = 120.0  # that a refusal may take, on a busy machine
_GREETINGS = ("GPU available", "TPU available", "HPU available", "`Trainer(", "Restoring states", "Loaded model")
_GREETINGS += ("note: ",)


def nothing(folder: Path) -> None:
    """Prepares nothing."""


@dataclass
class Case:
    """Bad input.

    Args:
        name: of the case.
        words: what is typed.
        named: what the message must say.
        prepare: puts the files into the folder in which the command runs.
    """

    name: str
    words: list[str]
    named: tuple[str, ...] = ()
    prepare: Callable[[Path], Any] = nothing


@dataclass
class Attempt:
    """What came of a command: its exit status (None where it was still running), what it printed and wrote."""

    status: int | None
    output: str
    errors: list[str]
    left: list[str] = field(default_factory=list)


def attempt(
    words: list[str], folder: Path, run: Callable[[list[str]], Any] = main, seconds: float = SECONDS
) -> Attempt:
    """Runs a command in `folder`, forked from this process, in which everything is imported already."""
    output, before = folder.with_name(f"{folder.name}.output"), contents(folder)
    printed, errors = (Path(f"{output}{number}") for number in (1, 2))
    printed.touch(), errors.touch()  # a child that is ended at once has not made them
    sys.stdout.flush(), sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _run(words, folder, output, run)
    status = _wait(child, seconds)
    after = contents(folder)
    left = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    found = Attempt(status, printed.read_text(), errors.read_text(errors="replace").splitlines(), left)
    printed.unlink(), errors.unlink()
    return found


def _run(words: list[str], folder: Path, output: Path, run: Callable[[list[str]], Any]) -> NoReturn:
    """Ends this process as the interpreter would."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        for number in (1, 2):
            os.dup2(os.open(f"{output}{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        torch.set_num_threads(1)
        warnings.resetwarnings()
        run(words)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)


def _wait(child: int, seconds: float) -> int | None:
    end, pause = time.monotonic() + seconds, 0.005
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: the bytes of files, None for folders."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def complaints(case: Case, found: Attempt) -> list[str]:
    """What is wrong with the refusal of a case: nothing where it is refused as it should be."""
    said = [line for line in found.errors if line.strip() and not line.startswith(_GREETINGS)]
    message = said[-1] if said else ""
    wrong = {
        "hangs": found.status is None,
        f"exit status {found.status}": found.status not in (2, None),
        "traceback": "Traceback" in found.output or any("Traceback" in line for line in found.errors),
        "no message": not message.startswith("error: "),
        "more than one line": len(said) > 1,
        "long": len(message) > LONGEST,
        "unreadable": not message.isprintable(),
        "prints": bool(found.output.strip()),
        f"leaves {', '.join(found.left)[:200]}": bool(found.left),
        **{f"does not name {name!r}": name.lower() not in message.lower() for name in case.named},
    }
    return [what for what, holds in wrong.items() if holds]
