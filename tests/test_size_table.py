"""experiments/size_table.py: a line for each estimator and size, of small models that nothing has trained."""

import pytest
import size_table
import torch
from lightning import seed_everything

from ils_lightning.data import Digits
from ils_lightning.data.images import Images
from ils_lightning.estimators import ReinMax
from ils_lightning.modules import DiscreteVAE
from ils_lightning.networks import MLP

SHAPE = (1, 3, 3)


def untrained(latents, categories, epochs, seed):
    seed_everything(seed, verbose=False)
    encoder, decoder = MLP([6], activation="tanh"), MLP([6], activation="tanh")
    model = DiscreteVAE(ReinMax(), latents, categories, image_shape=list(SHAPE), encoder=encoder, decoder=decoder)
    return model.eval(), [Images(torch.rand(16, *SHAPE).round(), torch.zeros(16, dtype=torch.long)) for _ in range(13)]


def printed(capsys):
    _, _, *rows = capsys.readouterr().out.splitlines()
    return {(size, name): cells for size, name, *cells in ([c.strip() for c in row.split("|")[1:-1]] for row in rows)}


@pytest.mark.slow
def test_a_line_for_each_estimator_but_where_the_joint_one_is_too_large(monkeypatch, capsys):
    monkeypatch.setattr(size_table, "trained", untrained)
    monkeypatch.setattr(size_table, "LARGEST_JOINT", 12)
    size_table.main(sizes=[(4, 3), (8, 3)], draws=64)
    found = printed(capsys)
    names = list(size_table.ESTIMATORS)
    assert list(found) == [("4 x 3", name) for name in names] + [("8 x 3", name) for name in names[:-1]]
    assert [found[size, "ReinMax"][1:] for size in ("4 x 3", "8 x 3")] == [["1.00", "0"]] * 2
    noise = {key: float(cells[0]) for key, cells in found.items()}
    assert noise["4 x 3", "ILSJoint"] < noise["4 x 3", "ReinMax"]
    assert noise["8 x 3", "ILSLowRank"] < noise["8 x 3", "ReinMax"]
    kept = {name: int(found["8 x 3", name][2].replace(",", "")) for name in names[:-1]}
    assert kept["ILSLowRank(rank=1)"] < kept["ILSLowRank"]
    assert kept["ILSLowRank(rank=32)"] - kept["ILSLowRank"] == 2 * 24 * (16 - 8) + 8 * (16**2 - 8**2)  # 16 there are


def test_batches_come_beside_a_model_that_has_been_trained(monkeypatch):
    steps = []
    monkeypatch.setattr(size_table, "ImageData", lambda name, batch_size: Digits(batch_size=batch_size // 10))
    monkeypatch.setattr(size_table.Trainer, "fit", lambda trainer, model, datamodule: steps.append(trainer.max_epochs))
    model, batches = size_table.trained(4, 3, epochs=2, seed=1)
    assert steps == [2]
    assert (model.hparams["latents"], model.training) == (4, False)
    assert len(batches) == 101
