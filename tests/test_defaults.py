"""Modules made in Python go to other processes, their default optimisers with them."""

import pickle

import pytest
import torch
from lightning import Trainer
from torch.optim import Adam

from ils_lightning.data import Digits
from ils_lightning.estimators import ReinMax
from ils_lightning.modules import DiscreteVAE
from ils_lightning.networks import MLP


class Own(DiscreteVAE):
    """A module of one's own that leaves the optimiser to its base."""

    def __init__(self) -> None:
        networks = {"encoder": MLP([4]), "decoder": MLP([4]), "image_shape": [1, 8, 8]}
        super().__init__(ReinMax(), latents=2, categories=3, **networks)


def test_a_pickled_module_has_its_default_optimizer():
    copy = pickle.loads(pickle.dumps(Own()))
    optimizer = copy.configure_optimizers()
    assert isinstance(optimizer, Adam)
    assert optimizer.defaults["lr"] == 0.001


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_trained_by_spawned_processes():
    torch.manual_seed(0)
    model, data = Own(), Digits(batch_size=100)
    before = [p.detach().clone() for p in model.parameters()]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(max_epochs=1, accelerator="cpu", strategy="ddp_spawn", devices=2, **quiet).fit(model, datamodule=data)
    assert not any(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
