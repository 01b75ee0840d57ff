"""One draw of LatinHypercube is the estimator's own, so that a training may begin with one and end with several."""

from pathlib import Path

import pytest
import torch
from lightning import seed_everything
from trainers import quiet_trainer

from ils_lightning.callbacks import OptionSchedule
from ils_lightning.callbacks.schedules import Milestones
from ils_lightning.data import Digits
from ils_lightning.estimators import Estimator, ILSTempered, LatinHypercube, ReinMax, StraightThrough
from ils_lightning.modules import DiscreteVAE

STEPS = 15
"""Steps of an epoch."""


def estimated(estimator: Estimator) -> list[torch.Tensor]:
    """Losses and gradients of three steps from equal draws."""
    torch.manual_seed(3)
    found = []
    for _ in range(3):
        logits = torch.randn(5, 4, 3, dtype=torch.float64, requires_grad=True)
        loss = estimator(logits, lambda z: (z[..., 0].sum(-1) - 1).square())
        found += [loss, *torch.autograd.grad(loss.sum(), logits)]
    return found


@pytest.mark.parametrize("make", [StraightThrough, ReinMax, ILSTempered])
def test_one_draw_is_that_of_the_estimator(make: type[Estimator]) -> None:
    own, one, four = estimated(make()), estimated(LatinHypercube(make(), 1)), estimated(LatinHypercube(make(), 4))
    assert all(torch.equal(a, b) for a, b in zip(own, one, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(own, four, strict=True))


def curve(folder: Path, estimator: Estimator, *callbacks: OptionSchedule) -> torch.Tensor:
    """Training losses of two epochs."""
    seed_everything(0, verbose=False)
    model = DiscreteVAE(estimator, latents=4, categories=4)
    quiet_trainer(folder, *callbacks, max_epochs=2, limit_val_batches=0).fit(model, Digits(batch_size=100))
    _, losses = model.curve()
    assert len(losses) == 2
    return losses[:, 0]


def test_a_training_is_the_estimators_until_the_draws_grow_more(tmp_path: Path) -> None:
    grown = OptionSchedule("samples", Milestones(1, [4], [STEPS]))
    own = curve(tmp_path, ReinMax(1.3))
    spread = curve(tmp_path, LatinHypercube(ReinMax(1.3), 1), grown)
    assert spread[0] == own[0]
    assert spread[1] != own[1]
