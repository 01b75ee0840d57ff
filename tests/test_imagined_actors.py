"""experiments/imagined_actors.py: an actor in a trained world model adds a line of its returns to a file."""

import csv
import sys

import pytest
import torch
from pages import ROOT
from trainers import quiet_trainer

from ils_lightning.data import CartPole
from ils_lightning.estimators import Reinforce
from ils_lightning.modules import WorldModel

sys.path.append(str(ROOT / "experiments"))
import imagined_actors


def test_a_random_policy_keeps_the_pole_up_for_some_twenty_steps():
    data = CartPole(train=20, test=400)
    found = imagined_actors.random_return(data, 200, 0)
    # an episode of `record` has 22 steps on average, with a deviation of 12, and one more is made than is recorded
    assert abs(found - 22.5) < 4 * 12 / 400**0.5
    assert imagined_actors.random_return(data, 5, 0) == 5


@pytest.mark.slow
def test_every_actor_adds_a_line(tmp_path, capsys, monkeypatch):
    torch.manual_seed(0)
    world = WorldModel("ReinMax", latents=2, categories=3)
    trainer = quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(world, datamodule=CartPole(train=64, test=2))
    trainer.save_checkpoint(tmp_path / "world.ckpt")
    few = {"limit_train_batches": 2, "limit_val_batches": 1, "limit_test_batches": 1}
    whole = imagined_actors.make_trainer
    monkeypatch.setattr(imagined_actors, "make_trainer", lambda options: whole({**options, **few}))
    file = tmp_path / "actors.csv"
    imagined_actors.main(tmp_path / "world.ckpt", "ReinMax", 1, epochs=2, file=file)
    imagined_actors.main(tmp_path / "world.ckpt", "ReinMax", 2, estimator=Reinforce(), epochs=1, file=file)
    with file.open() as lines:
        one, other = csv.DictReader(lines)
    assert (one["run"], one["seed"], one["estimator"], one["epochs"]) == ("ReinMax", "1", "LeaveOneOut(samples=4)", "2")
    assert other["estimator"].startswith("Reinforce(")
    assert 5 < float(one["test/return"]) <= 200
    assert 20 < float(one["test/random"]) < 26
    assert one["test/random"] != other["test/random"]
    said = capsys.readouterr().out
    assert said.count("| epoch | validation return |") == 2
    assert f"| random | {float(one['test/random']):.1f} |" in said
