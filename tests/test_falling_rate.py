"""experiments/falling_rate.py: a training goes on while its rate falls, by its own estimator or by another one."""

import csv
import sys

import pytest
import torch
import yaml
from pages import ROOT

from ils_lightning.compare import compare
from ils_lightning.estimators import Relax, StraightThrough
from ils_lightning.modules import DiscreteVAE

sys.path.append(str(ROOT / "experiments"))
import falling_rate

GRID = {
    "title": "falling",
    "base": "vae_digits",
    "change": {"trainer.max_epochs": 1, "trainer.limit_train_batches": 3, "trainer.limit_test_batches": 1},
    "settings": {"levels": [{"name": "small", "change": {"model.init_args.latents": 2}}]},
    "runs": [{"name": "ReinMax", "change": {"model.init_args.estimator": {"class_path": "ReinMax"}}}],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The comparison's file, and the checkpoint of its training."""
    folder = tmp_path_factory.mktemp("falling")
    (folder / "grid.yaml").write_text(yaml.safe_dump(GRID), encoding="utf-8")
    compare(str(folder / "grid.yaml"), folder / "out", workers=1)
    (checkpoint,) = (folder / "out").rglob("last.ckpt")
    return {"comparison": str(folder / "grid.yaml"), "checkpoint": checkpoint, "setting": "small", "epochs": 1}


@pytest.fixture
def rates(monkeypatch):
    """The learning rate of every training step that is made."""
    seen, step = [], DiscreteVAE.training_step

    def noted(model, batch):
        seen.append(model.trainer.optimizers[0].param_groups[0]["lr"])
        return step(model, batch)

    monkeypatch.setattr(DiscreteVAE, "training_step", noted)
    return seen


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # those that a comparison adds
def test_every_run_adds_a_line_of_what_it_was(trained, tmp_path, capsys):
    file = tmp_path / "lines.csv"
    falling_rate.main(run="ReinMax", seed=0, file=file, **trained)
    falling_rate.main(run="ReinMax", seed=0, file=file, name="other", then=StraightThrough(), **trained)
    falling_rate.main(run="ReinMax", seed=0, file=file, name="kept", fall=False, **trained)
    with file.open() as lines:
        own, other, kept = csv.DictReader(lines)
    assert [(row["start"], row["run"], row["epochs"], row["to"]) for row in (own, other, kept)] == [
        ("ReinMax", "ReinMax", "1", "0.0"),
        ("ReinMax", "other", "1", "0.0"),
        ("ReinMax", "kept", "1", "1.0"),
    ]
    assert len({row["test/loss"] for row in (own, other, kept)}) == 3
    assert capsys.readouterr().out.count("| measure | value |") == 3
    with pytest.raises(ValueError, match=r"lines.csv has the columns setting, .*; this line has x"):
        falling_rate.add(file, {"x": 1})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # those that a comparison adds
def test_the_rate_stays_as_long_as_it_is_told_to(trained, tmp_path, rates):
    falling_rate.main(run="ReinMax", seed=0, file=tmp_path / "lines.csv", kept=2, **trained)
    assert rates == pytest.approx([0.001] * 7 + [0.001 * 2 / 3, 0.001 / 3])
    with (tmp_path / "lines.csv").open() as lines:
        assert [row["added"] for row in csv.DictReader(lines)] == ["3"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # those that a comparison adds
def test_it_falls_from_the_rate_of_the_training(trained, tmp_path, rates):
    saved = torch.load(trained["checkpoint"], weights_only=True)
    saved["optimizer_states"][0]["param_groups"][0]["lr"] = 0.004  # as if it had been chosen for the run
    torch.save(saved, tmp_path / "tuned.ckpt")
    falling_rate.main(run="ReinMax", seed=0, then=Relax(), **{**trained, "checkpoint": tmp_path / "tuned.ckpt"})
    assert rates == pytest.approx([0.004, 0.004 * 2 / 3, 0.004 / 3])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # those that a comparison adds
def test_a_comparison_may_have_no_settings(trained, tmp_path, rates):
    grid = {**GRID, "change": {**GRID["change"], "model.init_args.latents": 2}}
    del grid["settings"]
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid), encoding="utf-8")
    falling_rate.main(run="ReinMax", seed=0, **{**trained, "comparison": str(tmp_path / "grid.yaml"), "setting": None})
    assert rates == pytest.approx([0.001, 0.001 * 2 / 3, 0.001 / 3])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # those that a comparison adds
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setting": "smal"}, "has no setting trained by itself 'smal', did you mean 'small'"),
        ({"setting": None}, "setting must be one of small; given none"),
        ({"epochs": 0}, "epochs must be at least 1, kept 0 or more; given 0 and 0"),
        ({"run": "ReinMex"}, "has no run 'ReinMex', did you mean 'ReinMax'"),
    ],
)
def test_what_is_not_there_is_refused(trained, change, message):
    with pytest.raises(ValueError, match=message):
        falling_rate.main(**{"run": "ReinMax", "seed": 0, **trained, **change})
