"""Every file in configs/ works: estimators estimate, runs run; comparisons are in test_compare."""

from pathlib import Path

import pytest
import torch
import yaml

from ils_lightning.cli import main
from ils_lightning.describe import create
from ils_lightning.estimators import Estimator, table

CONFIGS = Path(__file__).parent.parent / "configs"
ESTIMATORS = sorted((CONFIGS / "estimators").glob("*.yaml"))
RUNS = sorted(CONFIGS.glob("*.yaml"))
WITHOUT_OPTIONS_OF_THEIR_OWN = {"Average", "Exact"}


@pytest.mark.parametrize("path", ESTIMATORS, ids=lambda path: path.stem)
def test_recommended_settings_make_an_estimator(path):
    estimator = create(yaml.safe_load(path.read_text()), Estimator)
    assert type(estimator).__module__.rsplit(".", 1)[-1] == path.stem
    logits = torch.randn(16, 2, 2 if estimator.binary else 4, requires_grad=True)
    estimator.build(*logits.shape[-2:])
    estimator(logits, lambda z: (z[..., 0] - 0.3).square().sum(-1)).mean().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_every_estimator_has_recommended_settings():
    named = {path.stem for path in ESTIMATORS}
    expected = {
        c.__module__.rsplit(".", 1)[-1] for c in table.classes() if c.__name__ not in WITHOUT_OPTIONS_OF_THEIR_OWN
    }
    assert named == expected


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_packaged_runs_run(path, tmp_path):
    main(["fit", f"--config={path}", f"--trainer.default_root_dir={tmp_path}", "--trainer.max_steps=2"])
    assert list(tmp_path.rglob("last.ckpt"))


def test_a_file_of_settings_names_the_estimator_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = CONFIGS / "estimators" / "reinmax.yaml"
    main(["fit", f"--model.estimator={path}", "--trainer.max_steps=2"])
    settings = yaml.safe_load(next(tmp_path.rglob("config.yaml")).read_text())
    assert settings["model"]["init_args"]["estimator"]["class_path"].endswith("ReinMax")
