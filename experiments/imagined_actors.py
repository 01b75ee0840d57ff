"""Trains an actor inside a trained world model, and tells its returns in the true world, and a random policy's.

    python -m ils_lightning compare compare/world_model --settings L8K8 --folder worlds
    python experiments/imagined_actors.py worlds/runs/reinmax-l8k8-1-*/last.ckpt ReinMax 1 --file actors.csv

The checkpoint is that of a training of `compare/world_model`; the actor gets its seed, and the same episodes. Printed
are the returns of validation after each epoch, and what the test says; `--file` adds a line to a CSV.
"""

from pathlib import Path
from typing import Any

import torch
import yaml
from falling_rate import add
from jsonargparse import auto_cli
from lightning import seed_everything

from ils_lightning import packaged
from ils_lightning.compare.training.fit import make, make_trainer
from ils_lightning.describe import describe, in_words
from ils_lightning.estimators import Estimator, LeaveOneOut
from ils_lightning.tables import markdown

STEPS = 200
"""Of an episode in the true world, at most."""


def random_return(data: Any, steps: int, seed: int) -> float:
    """Mean return of a policy that acts evenly, from where the test's episodes begin."""
    noise = torch.Generator().manual_seed(seed)
    state = data.states(data.splits.test.episodes.observation[:, 0])
    alive, gained = torch.ones(len(state), dtype=torch.bool), torch.zeros(len(state))
    for _ in range(steps):
        gained += alive
        state, _, goes_on = data.step(state, torch.randint(2, (len(state),), generator=noise))
        alive = alive & goes_on
    return float(gained.mean())


def main(
    checkpoint: Path,
    run: str,
    seed: int,
    estimator: Estimator | None = None,
    epochs: int = 4,
    file: Path | None = None,
) -> None:
    """Prints returns in the true world.

    Args:
        checkpoint: of a world model.
        run: that the world model was trained by, as the comparison names it.
        seed: of that training.
        estimator: of the actor; LeaveOneOut unless given.
        epochs: of the actor.
        file: CSV that gets a line.
    """
    torch.set_num_threads(1)
    options = yaml.safe_load(packaged.find("imagination_cart_pole").read_text(encoding="utf-8"))
    options["seed_everything"] = options["data"]["init_args"]["seed"] = seed
    settings = options["model"]["init_args"]
    settings |= {"world": str(checkpoint), "estimator": describe(estimator or LeaveOneOut()), "steps": STEPS}
    made: Any = make(options)
    model, data = made
    trainer: Any = make_trainer({**options["trainer"], "max_epochs": epochs, "accelerator": "cpu"})
    returns = []
    log = model.log_metric

    def noted(stage: str, name: str, value: torch.Tensor) -> None:
        if (stage, name) == ("val", "return"):
            returns.append(float(value))
        log(stage, name, value)

    model.log_metric = noted
    trainer.fit(model, datamodule=data)
    seed_everything(seed, verbose=False)
    (tested,) = trainer.test(model, datamodule=data, verbose=False)
    print(markdown(["epoch", "validation return"], [[str(n), f"{one:.1f}"] for n, one in enumerate(returns, 1)]))
    found = {"return": tested["test/return"], "random": random_return(data, STEPS, seed)}
    print(markdown(["test", "return"], [[name, f"{value:.1f}"] for name, value in found.items()]), end="")
    if file:
        row = {"run": run, "setting": "", "seed": seed, "estimator": in_words(model.estimator), "epochs": epochs}
        add(file, row | {f"test/{name}": f"{value:.4f}" for name, value in found.items()})


if __name__ == "__main__":
    auto_cli(main)
