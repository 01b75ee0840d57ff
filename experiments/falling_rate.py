"""Goes on from the end of a comparison's training while the learning rate falls to zero: what did its noise cost?

    python experiments/falling_rate.py CHECKPOINT "ReinMax(1.5)" 1
    python experiments/falling_rate.py CHECKPOINT "ReinMax(1.5)" 1 --then '{"class_path": "ILSTempered"}'

It falls as by `Cooldown`, over the epochs that are added, or after the first `--kept` of them; `--fall false` leaves
the learning rate as it was, beside which the gain is to be read. `--then` gives these epochs an estimator of their own,
so that several are compared from the same weights. Printed is the training loss of each of these epochs, and what the
test set says after the last; `--file` adds a line to a CSV.
"""

import csv
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from lightning import seed_everything

from ils_lightning.checkpoint_io import use_complete_checkpoints
from ils_lightning.compare.grid.spec import read
from ils_lightning.compare.training.fit import make, make_trainer
from ils_lightning.describe import describe
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator
from ils_lightning.tables import markdown


def main(
    checkpoint: Path,
    run: str,
    seed: int,
    comparison: str = "compare/vae_mnist_160",
    setting: str | None = "L24K4",
    epochs: int = 16,
    kept: int = 0,
    fall: bool = True,
    then: Estimator | None = None,
    name: str = "",
    file: Path | None = None,
) -> None:
    """Prints the training loss of every epoch, and the test set's measures after the last.

    Args:
        checkpoint: last.ckpt of one of the comparison's trainings.
        run: of the training, as the comparison names it.
        seed: of the training.
        comparison: its file or name.
        setting: of the training; null where the comparison has none.
        epochs: that are added, in which the rate falls.
        kept: epochs that are added before those, in which it stays.
        fall: whether the rate falls at all.
        then: estimator of the epochs that are added; the run's own by default.
        name: of what is added, in the file; that of the run by default.
        file: CSV that gets a line.

    Raises:
        Refusal: when a number is out of its range.
    """
    if epochs < 1 or kept < 0:
        raise Refusal(f"epochs must be at least 1, kept 0 or more; given {epochs} and {kept}")
    torch.set_num_threads(1)
    whole = read(comparison)
    (chosen,) = whole.select(runs=[run], settings=[setting] if setting else None).runs
    setting = setting or ""
    if setting not in chosen.parts():
        raise Refusal(f"setting must be one of {', '.join(chosen.parts())}; given none")
    before = torch.load(checkpoint, weights_only=True, mmap=True)
    done, steps = before["epoch"] + 1, before["global_step"]
    change: dict[str, Any] = {"model.init_args.estimator": describe(then)} if then else {}
    if fall:  # from the rate that the training had, which may have been chosen for its run
        change["model.init_args.optimizer.init_args.lr"] = before["optimizer_states"][0]["param_groups"][0]["lr"]
        of_it, added = (steps * number // done for number in (epochs, kept + epochs))
        cooldown = {"class_path": "Cooldown", "init_args": {"steps": added, "cooldown": of_it}}
        change["model.init_args.lr_scheduler"] = cooldown
    options = whole.configuration(chosen, seed, setting, change)
    made: Any = make(options)
    model, data = made
    trainer: Any = make_trainer({**options["trainer"], "max_epochs": done + kept + epochs, "accelerator": "cpu"})
    use_complete_checkpoints(trainer)
    trainer.fit(model, datamodule=data, ckpt_path=str(checkpoint))
    _, losses = model.curve()
    seed_everything(seed, verbose=False)
    (tested,) = trainer.test(model, datamodule=data, verbose=False)
    print(markdown(["epoch", "training"], [[f"{done + n}", f"{x:.2f}"] for n, x in enumerate(losses[done:, 0], 1)]))
    print(markdown(["measure", "value"], [[name, f"{value:.2f}"] for name, value in tested.items()]), end="")
    if file:
        row = {"setting": setting, "start": run, "epochs": done, "run": name or run, "seed": seed}
        row |= {"added": kept + epochs, "to": 0.0 if fall else 1.0, "train/loss": f"{losses[-1, 0]:.4f}"}
        row |= {name: f"{value:.4f}" for name, value in tested.items()}
        add(file, row)


def add(file: Path, row: dict[str, Any]) -> None:
    """Adds a line to a CSV, which is begun where it is not there.

    Raises:
        Refusal: when it has other columns.
    """
    new = not file.exists()
    if not new:
        with file.open(encoding="utf-8") as lines:
            known = next(csv.reader(lines), [])
        if known != list(row):
            raise Refusal(f"{file} has the columns {', '.join(known)}; this line has {', '.join(row)}")
    with file.open("a", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    auto_cli(main)
