"""How far a value walks: calls in this package before the first training step, and of one backward pass.

    python experiments/walks.py

For each command: calls of functions of the package, how many functions, in how many files, and how often a call leads
from one file to another ("moves"), after imports and up to the first training step. For an estimator: the same of its
backward pass. Comprehensions and generators resumed count as calls of nobody.
"""

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from rich.console import Console

import ils_lightning
import ils_lightning.cli.training
import ils_lightning.compare
from ils_lightning.cli import main
from ils_lightning.estimators import ILSJoint, ILSNewton, ReinMax
from ils_lightning.tables import on_screen

HOME = str(Path(ils_lightning.__file__).parent)


class Arrived(BaseException):
    """The first training step."""


class Walk:
    """Counts calls of functions of the package while it is entered."""

    def __init__(self) -> None:
        self.calls, self.moves = 0, 0
        self.functions: set[tuple[str, str]] = set()
        self._last = ""

    def __enter__(self) -> "Walk":
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(HOME) or code.co_name.startswith("<"):
            return
        if code.co_flags & 0x20 and frame.f_lasti > 10:  # a generator that goes on
            return
        self.calls += 1
        self.functions.add((code.co_filename, code.co_qualname))
        self.moves += code.co_filename != self._last
        self._last = code.co_filename

    @property
    def files(self) -> int:
        """Number of files whose functions were called."""
        return len({file for file, _ in self.functions})


def to_the_first_step(words: list[str]) -> Walk:
    """The walk of a command, which is run twice: what is imported on the way is no part of it."""

    def arrive(*_: Any, **__: Any) -> None:
        sys.setprofile(None)  # what comes is clearing up
        raise Arrived

    loop: Any = _TrainingEpochLoop
    walk, advance = Walk(), loop.advance
    for once in (Walk(), walk):
        loop.advance = arrive
        try:
            with (
                contextlib.chdir(tempfile.mkdtemp()),
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
                contextlib.suppress(Arrived, SystemExit),
                once,
            ):
                main(words)
        finally:
            loop.advance = advance
    return walk


def backward(make: Callable[[], Any]) -> Walk:
    """The walk of one backward pass, after a first one that makes the state."""
    estimator, walk = make(), Walk()
    for once in (Walk(), walk):
        logits = torch.randn(20, 4, 3, requires_grad=True)
        loss = estimator(logits, lambda z: (z.sum(dim=-2)[..., 0] - 1).square())
        with torch.autograd.set_multithreading_enabled(False), once:
            loss.sum().backward()
    return walk


def grid() -> str:
    """A comparison of two runs."""
    content = {
        "title": "walks",
        "base": "toy1",
        "seeds": [0],
        "runs": [
            {"name": name, "change": {"model.init_args.estimator": {"class_path": name}}} for name in ("ILS", "ReinMax")
        ],
    }
    path = Path(tempfile.mkdtemp()) / "walks.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def walks() -> dict[str, Walk]:
    """All walks by name."""
    found = {
        "fit --model.estimator ReinMax": to_the_first_step(["fit", "--model.estimator", "ReinMax"]),
        "compare, two runs": to_the_first_step(["compare", grid()]),
    }
    return found | {f"backward of {make.__name__}": backward(make) for make in (ReinMax, ILSNewton, ILSJoint)}


def show() -> None:
    """Prints the table."""
    table = on_screen()
    table.add_column("walk")
    for heading in ("calls", "functions", "files", "moves"):
        table.add_column(heading, justify="right")
    for name, walk in walks().items():
        table.add_row(name, str(walk.calls), str(len(walk.functions)), str(walk.files), str(walk.moves))
    Console().print(table)


if __name__ == "__main__":
    show()
