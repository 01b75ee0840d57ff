"""Kills fits and comparisons at random moments and resumes them: `python tests/kills.py 20 fit`, `compare` or `ranks`.

Processes are forked from this one, in which everything is imported already, and get SIGKILL. Of two ranks one or both
are killed: the other has to end by itself.
"""

import csv
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from lightning.pytorch.strategies.launchers import subprocess_script

import ils_lightning.cli.training
import ils_lightning.compare  # noqa: F401 (imported before the clock starts)
from ils_lightning.cli import main

Job = Callable[[Path, list[float]], Any]

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
VAE = ["fit", "--model=DiscreteVAE", "--data=Digits", "--data.binarize=dynamic", "--trainer.max_epochs=6", *QUIET]
VAE += ["--model.estimator=ILSNewton", "--model.kl_warmup=40", "--trainer.gradient_clip_val=5"]
VAE += ["--model.lr_scheduler=CosineAnnealingLR", "--model.lr_scheduler.T_max=80"]
REBAR = ["fit", "--model=CategoricalFit", "--model.estimator=Rebar", "--model.loss=RBFEnergy", "--data=SingleDraws"]
REBAR += ["--model.chunk=10", "--trainer.max_steps=600", "--trainer.val_check_interval=5", *QUIET]
AVERAGE = ["fit", "--model=CategoricalFit", "--model.estimator=Reinforce", "--model.loss=RBFEnergy"]
AVERAGE += [
    "--model.estimator.baseline=MovingAverage",
    "--model.chunk=1",
    "--data=SingleDraws",
    "--trainer.max_steps=150",
]
AVERAGE += ["--trainer.val_check_interval=12", "--trainer.accumulate_grad_batches=3", *QUIET]
FITS = [VAE, REBAR, AVERAGE]
RANKS = [*VAE, "--trainer.strategy=ddp", "--trainer.devices=2", "--trainer.max_epochs=10"]
PATIENCE = 60.0
"""Seconds after which a rank that has lost the other has to have ended."""
GRID = {
    "title": "kills",
    "base": {
        "model": {
            "class_path": "CategoricalFit",
            "init_args": {"loss": "RBFEnergy", "chunk": 10, "estimator": "Exact"},
        },
        "data": {"class_path": "SingleDraws", "init_args": {}},
        "trainer": {"max_steps": 300, "val_check_interval": 5, "accelerator": "cpu"},
    },
    "seeds": [0, 1],
    "runs": [
        {"name": name, "change": {"model.init_args.estimator": {"class_path": name}}}
        for name in ("ReinMax", "LeaveOneOut", "ILSDiagonal")
    ],
}


def killed_after(seconds: float | None, words: list[str], folder: Path) -> float:
    """Runs a command in `folder` and kills it after `seconds`, if it still runs; returns how long it ran."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(words, folder))
    began = time.monotonic()
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    if seconds is None and process.exitcode != 0:
        raise RuntimeError(f"exit status {process.exitcode}: {(folder / 'output.txt').read_text()[-2000:]}")
    return time.monotonic() - began


def _run(words: list[str], folder: Path) -> None:
    os.chdir(folder)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1), os.dup2(output, 2)
    torch.set_num_threads(1)
    sys.argv[1:] = words
    main(words)


def newest(folder: Path) -> Path | None:
    """The last checkpoint written under `folder`."""
    return max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime_ns, default=None)


def fit(words: list[str], folder: Path, moments: list[float]) -> dict[str, Any]:
    """Fits, killed at each of `moments` after its (re)start, and returns the last checkpoint."""
    for moment in [*moments, None]:
        last = newest(folder)
        killed_after(moment, [*words, *([f"--ckpt_path={last}"] if last else [])], folder)
        for path in folder.rglob("*.ckpt"):
            torch.load(path, weights_only=True)
    last = newest(folder)
    assert last is not None
    return torch.load(last, weights_only=True)


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
    for moment in [*moments, None]:
        last = newest(folder)
        start_ranks([*RANKS, *([f"--ckpt_path={last}"] if last else [])], folder, moment, chance)
        for path in folder.rglob("*.ckpt"):
            torch.load(path, weights_only=True)
    last = newest(folder)
    assert last is not None
    return torch.load(last, weights_only=True)


def start_ranks(words: list[str], folder: Path, moment: float | None, chance: random.Random) -> None:
    """Runs a command and kills one of its processes, or all, after `moment` seconds; all have to end."""
    process = multiprocessing.get_context("fork").Process(target=_run_ranks, args=(words, folder))
    process.start()
    assert process.pid is not None
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
    subprocess_script.subprocess = SimpleNamespace(Popen=partial(Fork, words, folder))
    _run(words, folder)


class Fork:
    """As much of a `Popen` as Lightning uses."""

    def __init__(self, words: list[str], folder: Path, command: list[str], env: dict[str, str], **_: Any) -> None:
        assert command[-len(words) :] == words
        self.pid, self.args, self.returncode = os.fork(), command, None
        if not self.pid:
            try:
                os.environ.clear(), os.environ.update(env)
                _run(words, folder)
                os._exit(0)
            finally:
                os._exit(1)

    def poll(self) -> int | None:
        if self.returncode is None and (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.returncode = os.waitstatus_to_exitcode(found[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def grid(workers: int, folder: Path, moments: list[float]) -> dict[str, Any]:
    """Compares, killed at each of `moments`, and returns checkpoints, results and tables."""
    (folder / "grid.yaml").write_text(yaml.safe_dump(GRID))
    for moment in [*moments, None]:
        killed_after(moment, ["compare", "grid.yaml", "--folder=out", f"--workers={workers}"], folder)
        for path in [*folder.rglob("*.ckpt"), *folder.rglob("*.pt")]:
            torch.load(path, weights_only=True)
    kept = {
        f"{path.parent.name} {path.name}": torch.load(path, weights_only=True)
        for name in ("last.ckpt", "result.pt")
        for path in folder.rglob(name)
    }
    tables = {name: _untimed(folder / "out" / name) for name in ("table.csv", "results.csv")}
    return {"figure": (folder / "out/figure.svg").read_text(), **tables, **kept}


def _untimed(path: Path) -> list[dict[str, str]]:
    lines = list(csv.DictReader(path.read_text().splitlines()))
    return [{name: value for name, value in line.items() if "second" not in name} for line in lines]


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Names what differs, bit for bit, of two checkpoints or results; clocks and folders apart."""
    if any(word in path for word in ("/callbacks", "/times", "/seconds", "/configuration")):
        return []
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other}, key=str)
        return [found for key in keys for found in differences(one.get(key), other.get(key), f"{path}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [found for key, pair in pairs for found in differences(*pair, f"{path}/{key}")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.shape == other.shape and torch.equal(one, other)
    else:
        same = one == other
    return [] if same else [path]


def trial(job: Job, folder: Path, whole: Any, seconds: float, chance: random.Random) -> list[str]:
    """Runs a job with two kills, each at any moment of the `seconds` that it takes; returns what differs."""
    moments = [chance.uniform(0, seconds), chance.uniform(0, seconds)]
    return [f"{path} (killed after {moments})" for path in differences(job(folder, moments), whole)]


def jobs(count: int) -> list[tuple[str, Job, int]]:
    """Name, job and number of trials: `count` of fits, and as many of comparisons."""
    names = ["fit: VAE, ILSNewton", "fit: toy, Rebar", "fit: toy, moving average, accumulated gradients"]
    fits = [(name, partial(fit, words)) for name, words in zip(names, FITS, strict=True)]
    both = [("ranks: VAE, ILSNewton, ddp", ranks)]
    grids = [(f"compare with {workers} worker(s)", partial(grid, workers)) for workers in (1, 1, 1, 2)]
    return [
        (name, job, count // len(group) + (position < count % len(group)))
        for group in (fits, grids, both)
        for position, (name, job) in enumerate(group)
    ]


def show(count: int, kind: str) -> None:
    """Prints how many of the trials of jobs whose name holds `kind` ended as the uninterrupted job did."""
    chance = random.Random(0)
    for name, job, mine in [one for one in jobs(count) if kind in one[0]]:
        began = time.monotonic()
        whole = job(Path(mkdtemp()), [])
        seconds = time.monotonic() - began
        found = [trial(job, Path(mkdtemp()), whole, seconds, chance) for _ in range(mine)]
        same = sum(not one for one in found)
        print(f"{name}: {same} of {mine} ended as uninterrupted; two kills each within {seconds:.1f} s", flush=True)
        print("\n".join(one[0] for one in found if one), end="", flush=True)


if __name__ == "__main__":
    show(int(sys.argv[1]), *sys.argv[2:3] or [""])
