"""A checkpoint that names files of others: resumed, the run removes and writes nothing outside of its own folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import contents
from lightning.pytorch.callbacks import ModelCheckpoint

from ils_lightning.cli import main
from ils_lightning.cli.guards import kept_by

WORDS = ["fit", "--model.chunk=1", "--data=SingleDraws", "--model.loss=RBFEnergy", "--trainer.val_check_interval=2"]
WORDS += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.max_steps=4"]
TOP = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.init_args.monitor=val/kl"]
TOP += ["--trainer.callbacks.init_args.save_last=true", "--trainer.callbacks.init_args.filename={step}"]
FORMS = {
    "folder": "{victim}",
    "file": "{victim}/precious.ckpt",
    "local": "local://{victim}",
    "local, present folder": "local://victim",
    "file address": "file://{victim}",
    "memory": "memory://victim",
    "chain": "simplecache::local://{victim}/precious.ckpt",
    "chain below": "{own}/::local://{victim}/precious.ckpt",
    "above": "{own}/../../../../victim",
    "file above": "{own}/../../../../victim/precious.ckpt",
    "own folder": "{own}",
    "other file in it": "{own}/notes.txt",
    "link": "{own}/link/precious.ckpt",
}


def poisoned(checkpoint: Path, path: str, own: str) -> Path:
    """A copy of a checkpoint in which every callback that keeps files has kept `path`."""
    found = torch.load(checkpoint, weights_only=True)
    state = {
        "dirpath": own,
        "monitor": None,
        "best_model_score": torch.tensor(-1e9),
        "current_score": torch.tensor(-1e9),
        "best_model_path": path,
        "best_k_models": {path: torch.tensor(1e9)},
        "kth_best_model_path": path,
        "kth_value": torch.tensor(1e9),
        "last_model_path": path,
    }
    kept = {key: one for key, one in found["callbacks"].items() if "Checkpoint" not in key}
    triggers = "'mode': 'min', 'every_n_train_steps': 0, 'every_n_epochs': 1, 'train_time_interval': None"
    for name, monitor in (("LastCheckpoint", "None"), ("ModelCheckpoint", "'val/kl'"), ("ModelCheckpoint", "None")):
        kept[f"{name}{{'monitor': {monitor}, {triggers}}}"] = state
    other = checkpoint.with_name("poisoned.ckpt")
    torch.save(found | {"callbacks": kept}, other)
    return other


@pytest.mark.slow
@pytest.mark.parametrize("words", [WORDS, [*WORDS, *TOP]], ids=["default", "ModelCheckpoint"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_a_checkpoint_names_is_left_alone(
    words: list[str], form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    victim, own = tmp_path / "victim", tmp_path / "lightning_logs/version_1/checkpoints"
    victim.mkdir()
    for name in ("precious.ckpt", "precious.txt", "last.ckpt"):
        (victim / name).write_text(name)
    main(words)
    path = form.format(victim=victim, own=own)
    evil = poisoned(tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt", path, str(own))
    own.mkdir(parents=True)
    (own / "notes.txt").write_text("mine")
    (own / "link").symlink_to(victim)
    before = contents(tmp_path)
    place = ["--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=.", "--trainer.logger.version=1"]
    main([*WORDS, f"--ckpt_path={evil}", "--trainer.max_steps=12", *place])
    after = contents(tmp_path)
    assert {name: after.get(name) for name in before} == before
    assert (own / "last.ckpt").exists()
    assert all(name.startswith("lightning_logs/version_1") for name in after.keys() - before.keys())


def callback(folder: str) -> ModelCheckpoint:
    return ModelCheckpoint(folder, monitor="val/loss", save_top_k=2)


def state(*paths: Any) -> dict[str, Any]:
    kept = {path: torch.tensor(0.0) for path in paths}
    return {"best_model_path": paths[0], "best_k_models": kept, "kth_best_model_path": paths[-1]}


def test_a_run_goes_on_with_what_it_kept_itself(tmp_path: Path) -> None:
    own = str(callback(str(tmp_path)).dirpath)
    assert kept_by(callback(own), state(f"{own}/step=3.ckpt", f"{own}/epoch=1/val/loss=2.ckpt"))
    assert kept_by(callback("memory://disk/run"), state("memory://disk/run/best.ckpt"))
    assert kept_by(callback(own), {"best_model_path": ""})


@pytest.mark.parametrize(
    "path", ["memory://disk/other/a.ckpt", "memory://disk/run/../a.ckpt", "memory://disk/run/*.ckpt", 3]
)
def test_addresses_of_others_are_not_believed(path: Any) -> None:
    assert not kept_by(callback("memory://disk/run"), state(path))


def test_a_state_that_contradicts_itself_is_not_believed(tmp_path: Path) -> None:
    own = str(callback(str(tmp_path)).dirpath)
    assert not kept_by(callback(own), {"best_k_models": {}, "kth_best_model_path": f"{own}/a.ckpt"})
    assert not kept_by(callback(own), [own])
