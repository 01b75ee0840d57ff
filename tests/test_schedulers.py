"""The learning rate that falls at the end."""

import pytest
import torch
from lightning import seed_everything
from trainers import keep_last, quiet_trainer

from ils_lightning.callbacks import RankSeed
from ils_lightning.data import Digits
from ils_lightning.modules import DiscreteVAE
from ils_lightning.schedulers import Cooldown


def rates(steps: int, cooldown: int, taken: int) -> list[float]:
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.4}], lr=1.0)
    scheduler, found = Cooldown(optimizer, steps, cooldown), []
    for _ in range(taken):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_it_stays_falls_in_a_line_and_ends_at_zero():
    assert rates(7, 4, 9) == pytest.approx([0.4, 0.4, 0.4, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0])
    assert rates(2, 2, 3) == pytest.approx([0.4, 0.2, 0.0])


@pytest.mark.parametrize(("steps", "cooldown"), [(5, 6), (5, 0), (0, 0)])
def test_a_fall_that_does_not_fit_is_refused(steps, cooldown):
    with pytest.raises(ValueError, match=f"cooldown must be from 1 to steps; given {cooldown} of {steps}"):
        rates(steps, cooldown, 1)


def fit(folder, epochs, resume=None, steps=8, cooldown=6):
    """Four steps an epoch; the model, and the learning rate of a step that would follow."""
    seed_everything(3, verbose=False)
    options = {"class_path": "Cooldown", "init_args": {"steps": steps, "cooldown": cooldown}}
    model = DiscreteVAE("ReinMax", 2, 3, lr_scheduler=options if steps else None)
    trainer = quiet_trainer(folder, RankSeed(), keep_last(folder), max_epochs=epochs, limit_train_batches=4)
    trainer.fit(model, datamodule=Digits(batch_size=50), ckpt_path=resume)
    return model, trainer.optimizers[0].param_groups[0]["lr"]


def test_a_resumed_training_goes_on_falling(tmp_path):
    whole, end = fit(tmp_path / "whole", 2)
    _, middle = fit(tmp_path / "parts", 1)
    parts, _ = fit(tmp_path / "parts", 2, tmp_path / "parts" / "last.ckpt")
    assert (middle, end) == (pytest.approx(0.001 * 4 / 6), 0.0)
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), parts.parameters(), strict=True))


@pytest.mark.parametrize(
    ("before", "after", "end"),
    [
        ((8, 4), (16, 8), 0.001 * 4 / 8),  # it had ended, and is given more
        ((100, 1), (16, 8), 0.001 * 4 / 8),
        ((0, 0), (8, 8), 0.001 * 4 / 8),  # of a constant rate: counted from there
    ],
)
def test_a_resumed_training_takes_the_options_that_it_is_given(tmp_path, before, after, end):
    fit(tmp_path, 2, None, *before)
    _, rate = fit(tmp_path, 3, tmp_path / "last.ckpt", *after)
    assert rate == pytest.approx(end)
