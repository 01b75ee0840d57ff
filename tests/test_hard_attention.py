"""HardAttention: the drop-in draw in an ordinary network learns where to look."""

from functools import partial

import pytest
import torch
from lightning import seed_everything
from trainers import quiet_trainer

from ils_lightning.callbacks import RankSeed
from ils_lightning.data import Digits, NoData
from ils_lightning.estimators import GumbelSoftmax, ILSNewton, LeaveOneOut, ReinMax
from ils_lightning.modules import HardAttention

SHAPE = [1, 4, 4]


def fit(folder, estimator, epochs, data=None, **options):
    seed_everything(0, verbose=False)
    model = HardAttention(estimator(), hidden=32, optimizer=partial(torch.optim.Adam, lr=0.01), **options)
    trainer = quiet_trainer(folder, RankSeed(), max_epochs=epochs)
    trainer.fit(model, datamodule=data or Digits(binarize="none"))
    return model, trainer


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [ReinMax, GumbelSoftmax, ILSNewton])
def test_samplers_learn_what_is_seen(estimator, tmp_path):
    model, trainer = fit(tmp_path, estimator, 10)
    _, values = model.curve()
    assert values[-1] < values[0] - 0.5
    assert trainer.callback_metrics["val/error"] < 0.75  # a guess is wrong in 0.9
    assert "wrong answers from 4 of 16 patches" in model.summary()["validation"]
    before = torch.get_rng_state()
    assert set(model.figures()) == {"glimpses"}
    assert torch.equal(torch.get_rng_state(), before)


def test_looks_where_the_label_is():
    """One patch tells the label of these images, the others are noise: a glimpse must find it."""
    torch.manual_seed(0)
    model = HardAttention(ReinMax(), glimpses=1, hidden=16, classes=2, image_shape=SHAPE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        label = torch.randint(2, (64,))
        x = torch.rand(64, *SHAPE)
        x[:, :, 2:, :2] = label[:, None, None, None].float()
        loss = torch.nn.functional.cross_entropy(model(x)[0], label)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    model.eval()
    _, seen = model(torch.rand(500, *SHAPE))
    assert seen[:, 0, 2].mean() > 0.9


def test_evaluation_draws_exactly_whatever_the_sampler():
    model = HardAttention(GumbelSoftmax(), image_shape=SHAPE)
    x = torch.rand(5, *SHAPE)
    assert (model(x)[1].amax(dim=-1) < 1).any()
    model.eval()
    assert set(model(x)[1].unique().tolist()) == {0.0, 1.0}


def test_every_glimpse_learns_a_state_of_its_own():
    model = HardAttention(ILSNewton(), image_shape=SHAPE)
    torch.nn.functional.cross_entropy(model(torch.rand(40, *SHAPE))[0], torch.randint(10, (40,))).backward()
    states = [sampler.P for sampler in model.samplers]
    assert len(states) == 4
    assert all(state.abs().sum() > 0 for state in states)
    assert not torch.equal(states[0], states[1])


def test_what_cannot_be_done_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"which samplers have .* given LeaveOneOut"):
        HardAttention(LeaveOneOut())
    with pytest.raises(ValueError, match="patch must divide height and width of 8x8 images; given 3"):
        fit(tmp_path, ReinMax, 1, patch=3)
    with pytest.raises(ValueError, match=r"made for images .* = \[1, 4, 4\]; these are \[1, 8, 8\]"):
        fit(tmp_path, ReinMax, 1, image_shape=SHAPE)
    with pytest.raises(
        ValueError, match="needs data that are images, such as --data Digits, or image_shape; given NoData"
    ):
        fit(tmp_path, ReinMax, 1, data=NoData())
    with pytest.raises(ValueError, match="must be at least 1"):
        HardAttention(ReinMax(), glimpses=0)
