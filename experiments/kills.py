"""Kills fits and comparisons at random moments and resumes them: `python experiments/kills.py 20 fit` or `ranks`.

Processes are forked from this one, in which everything is imported already, and get SIGKILL, each at any moment past
the first last.ckpt. Every start after the first has to go on from a step above 0: one that begins anew is an error,
however it ends. What the killed runs end in has to be what one ends in that is left alone, bit for bit.
"""

import csv
import multiprocessing
import os
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
import yaml
from lightning import LightningModule

import ils_lightning.cli.training
import ils_lightning.compare  # noqa: F401 (imported before the clock starts)
from ils_lightning.callbacks import Resumption
from ils_lightning.cli import main

Job = Callable[[Path, list[float]], Any]
Run = Callable[[float | None, list[str], Path], None]
"""Runs a command in a folder; kills it so many seconds after there is a last.ckpt, if a number is given."""

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
FEW = ["--trainer.max_epochs=12", "--trainer.limit_train_batches=6", "--trainer.limit_val_batches=1", *QUIET]
FEWER_DRAWS = ["--model.draws=2", "--model.importance_samples=2"]
VAE = ["fit", "--config=vae_digits", "--data.binarize=dynamic", *FEW, *FEWER_DRAWS]
VAE += ["--model.estimator=ILSNewton", "--model.kl_warmup=40", "--trainer.gradient_clip_val=5"]
VAE += ["--model.lr_scheduler=CosineAnnealingLR", "--model.lr_scheduler.T_max=80"]
PLATEAU = ["fit", "--config=vae_digits", *FEW, *FEWER_DRAWS, "--trainer.val_check_interval=0.5"]
PLATEAU += ["--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau", "--model.lr_scheduler.monitor=val/loss"]
PLATEAU += ["--model.lr_scheduler.patience=0", "--model.lr_scheduler.threshold=10"]
REBAR = ["fit", "--model=CategoricalFit", "--model.estimator=Rebar", "--model.loss=RBFEnergy", "--data=SingleDraws"]
REBAR += ["--model.chunk=10", "--trainer.max_steps=600", "--trainer.val_check_interval=5", *QUIET]
AVERAGE = ["fit", "--model=CategoricalFit", "--model.estimator=Reinforce", "--model.loss=RBFEnergy"]
AVERAGE += ["--model.estimator.baseline=MovingAverage", "--model.chunk=1", "--data=SingleDraws"]
AVERAGE += ["--trainer.max_steps=150", "--trainer.val_check_interval=10", "--trainer.accumulate_grad_batches=3", *QUIET]
TOKENIZER = ["fit", "--config=tokenizer_digits", *FEW, *FEWER_DRAWS, "--data.batch_size=20"]
TOKENIZER += ["--model.encoder.channels=8", "--model.decoder.channels=8"]
TREES = ["fit", "--config=listops", *FEW, "--data.train=400", "--data.validation=40", "--data.test=40"]
TREES += ["--data.longest=8", "--data.batch_size=20", "--model.parser_units=8", "--model.executor_units=16"]
ATTENTION = ["fit", "--config=hard_attention", *FEW]
HIERARCHY = ["fit", "--config=vae_hierarchical", *FEW, *FEWER_DRAWS]
OWN = ["fit", "--config=own_module.yaml", *FEW]
FITS = {
    "VAE, ILSNewton": VAE,
    "VAE, ReduceLROnPlateau": PLATEAU,
    "toy, Rebar": REBAR,
    "toy, moving average, accumulated gradients": AVERAGE,
    "tokeniser": TOKENIZER,
    "hierarchical VAE": HIERARCHY,
    "latent trees": TREES,
    "hard attention": ATTENTION,
    "a module of one's own": OWN,
}
GRID = {
    "title": "kills",
    "base": "vae_digits",
    "change": {
        "model.init_args.draws": 2,
        "model.init_args.importance_samples": 2,
        **{f"trainer.{name}": value for name, value in (("max_epochs", 6), ("limit_train_batches", 6))},
        "trainer.limit_val_batches": 1,
        "trainer.accelerator": "cpu",
    },
    "seeds": [0, 1],
    "runs": [
        {"name": name, "change": {"model.init_args.estimator": {"class_path": name}}}
        for name in ("ReinMax", "LeaveOneOut", "ILSDiagonal")
    ],
}


def killed_after(seconds: float | None, words: list[str], folder: Path) -> None:
    """Runs a command in `folder` and kills it `seconds` after there is a last.ckpt, if it still runs."""
    process = multiprocessing.get_context("fork").Process(target=command, args=(words, folder))
    process.start()
    while seconds is not None and process.is_alive() and newest(folder) is None:
        process.join(0.02)
    process.join(seconds)
    process.kill()
    process.join()
    if seconds is None and process.exitcode != 0:
        raise RuntimeError(f"exit status {process.exitcode}: {(folder / 'output.txt').read_text()[-2000:]}")


def command(words: list[str], folder: Path) -> None:
    """Is a process of its own: runs a command in `folder`, and notes in starts.txt where each training begins."""
    os.chdir(folder)
    sys.path.append(str(folder))
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    sys.argv[1:] = words
    note_starts(folder)
    # workers are processes of their own: Python runs this file of that name in each as it starts
    lines = ["import sys", f"sys.path.append({str(Path(__file__).parent)!r})", "from kills import note_starts"]
    (folder / "sitecustomize.py").write_text("\n".join([*lines, f"note_starts({str(folder)!r})"]))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    main(words)


def note_starts(folder: Path | str) -> None:
    """Has every training of this process note in starts.txt the step at which it begins, and its folder."""
    began = Resumption.on_train_start

    def note(self: Resumption, trainer: Any, pl_module: LightningModule) -> None:
        began(self, trainer, pl_module)
        with Path(folder, "starts.txt").open("a") as file:
            file.write(f"{trainer.global_step} {trainer.checkpoint_callbacks[-1].dirpath}\n")

    Resumption.on_train_start = note


def newest(folder: Path) -> Path | None:
    """The last checkpoint written under `folder`."""
    return max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime_ns, default=None)


def step_of(path: Path) -> int:
    """The optimiser step after which a checkpoint was written."""
    return torch.load(path, weights_only=True)["global_step"]


def starts(folder: Path) -> list[tuple[int, Path]]:
    """The steps at which trainings began in `folder`, and where each keeps its last.ckpt."""
    file = folder / "starts.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(step), Path(place)) for step, _, place in (line.partition(" ") for line in lines)]


def fit(words: list[str], folder: Path, moments: list[float], run: Run = killed_after) -> dict[str, Any]:
    """Fits, killed by `run` at each of `moments`, and returns the last checkpoint.

    Raises:
        AssertionError: where a start does not go on from the last checkpoint that was there, or a file is not whole.
    """
    if words is OWN:
        killed_after(None, ["new", "module", "OwnModule"], folder)
    for moment in [*moments, None]:
        last, known = newest(folder), len(starts(folder))
        run(moment, [*words, *([f"--ckpt_path={last}"] if last else [])], folder)
        begun = [step for step, _ in starts(folder)[known:]]
        assert all(step == step_of(last) > 0 if last else step == 0 for step in begun), (begun, last)
    last = newest(folder)
    assert last is not None
    _require_whole(folder)
    return torch.load(last, weights_only=True)


def _require_whole(folder: Path) -> None:
    """Loads all files, and looks for any that were left half-written."""
    for path in [*folder.rglob("*.ckpt"), *folder.rglob("*.pt")]:
        torch.load(path, weights_only=True)
    assert list(folder.rglob("*.partial")) == []


def grid(workers: int, folder: Path, moments: list[float]) -> dict[str, Any]:
    """Compares, killed at each of `moments`, and returns checkpoints, results and tables.

    Raises:
        AssertionError: where a training that has a checkpoint does not go on from it, or a file is not whole.
    """
    (folder / "grid.yaml").write_text(yaml.safe_dump(GRID))
    for moment in [*moments, None]:
        before, known = {path.parent: step_of(path) for path in folder.rglob("last.ckpt")}, len(starts(folder))
        killed_after(moment, ["compare", "grid.yaml", "--folder=out", f"--workers={workers}"], folder)
        begun = [(step, before[place]) for step, place in starts(folder)[known:] if place in before]
        assert all(step == saved > 0 for step, saved in begun), begun
        assert all(step_of(place / "last.ckpt") >= saved > 0 for place, saved in before.items())
    _require_whole(folder)
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


def training_seconds(folder: Path) -> float:
    """How long the trainings in `folder` took that were not interrupted."""
    ends = [path.stat().st_mtime for path in folder.rglob("last.ckpt")]
    return max(ends) - (min(ends) if len(ends) > 1 else (folder / "starts.txt").stat().st_mtime)


def trial(job: Job, folder: Path, whole: Any, seconds: float, chance: random.Random) -> list[str]:
    """Runs a job whose trainings take `seconds` with two kills, at moments before its end; returns what differs."""
    moments = [chance.uniform(0, seconds / 2), chance.uniform(0, seconds / 2)]
    return [f"{path} (killed after {moments})" for path in differences(job(folder, moments), whole)]


def jobs(count: int) -> list[tuple[str, Job, int]]:
    """Name, job and number of trials."""
    from kill_ranks import ranks  # late: it kills by what is here

    fits = [(f"fit: {name}", partial(fit, words), count) for name, words in FITS.items()]
    grids = [(f"compare with {workers} worker(s)", partial(grid, workers), count) for workers in (1, 2)]
    return [*fits, *grids, ("ranks: VAE, ILSNewton, ddp", ranks, count)]


def show(count: int, kind: str) -> None:
    """Prints how many of the trials of jobs whose name holds `kind` ended as the uninterrupted job did."""
    chance = random.Random(0)
    for name, job, mine in [one for one in jobs(count) if kind in one[0]]:
        folder, *folders = [Path(mkdtemp()) for _ in range(mine + 1)]
        whole = job(folder, [])
        seconds = training_seconds(folder)
        found = [trial(job, folder, whole, seconds, chance) for folder in folders]
        same, again = sum(not one for one in found), [step for one in folders for step, _ in starts(one)]
        assert sum(step > 0 for step in again) > 0, "no trial was killed in time to go on"
        went_on = f"{sum(step > 0 for step in again)} trainings went on from a step above 0, none began anew"
        print(f"{name}: {same} of {mine} ended as uninterrupted, killed twice each; {went_on}", flush=True)
        print("\n".join(one[0] for one in found if one), end="", flush=True)


if __name__ == "__main__":
    show(int(sys.argv[1]), *sys.argv[2:3] or [""])
