"""From every last.ckpt that a run writes, the resumed run ends as the uninterrupted one does, bit for bit."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_copies import copied, parts
from kills import differences
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ils_lightning.cli import main
from ils_lightning.modules import DiscreteVAE

pytestmark = pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned on metric val/loss:RuntimeWarning")

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
TOY = ["fit", "--model.estimator=GumbelSoftmax", "--data=SingleDraws", "--model.loss=RBFEnergy", "--model.chunk=1"]
TOY += ["--trainer.max_steps=8", *QUIET]
SMALL = ["--model.estimator=ReinMax", "--model.latents=2", "--model.categories=2", "--trainer.limit_train_batches=4"]
SMALL += ["--model.encoder=MLP", "--model.encoder.hidden=[4]", "--model.decoder=MLP", "--model.decoder.hidden=[4]"]
SMALL += ["--trainer.limit_val_batches=1", "--data=Digits", "--data.binarize=dynamic", *QUIET]
VAE = ["fit", "--model=DiscreteVAE", *SMALL, "--trainer.max_epochs=3"]
PLATEAU = ["--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau", "--model.lr_scheduler.monitor=val/loss"]
PLATEAU += ["--model.lr_scheduler.patience=0", "--model.lr_scheduler.threshold=10", "--model.lr_scheduler.factor=0.5"]
STOPPING = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.init_args.monitor=val/loss"]
STOPPING += ["--trainer.callbacks.init_args.min_delta=1e9", "--trainer.callbacks.init_args.patience=2"]
STEPWISE = ["fit", "--model=test_resumption.Stepwise", *SMALL, "--trainer.max_epochs=2"]
RUNS = {
    "toy": ([*TOY, "--trainer.val_check_interval=3"], 3),
    "toy, validated amid accumulation": (
        [*TOY, "--trainer.val_check_interval=4", "--trainer.accumulate_grad_batches=3"],
        6,  # the last validation and the end of training are one
    ),
    "every epoch": ([*VAE, *PLATEAU], 4),
    "every second epoch": ([*VAE, *PLATEAU, "--trainer.check_val_every_n_epoch=2"], 3),
    "twice an epoch": ([*VAE, *PLATEAU, "--trainer.val_check_interval=0.5"], 7),
    "every three batches": (
        [*VAE, *PLATEAU, "--trainer.val_check_interval=3", "--trainer.check_val_every_n_epoch=null"],
        4,
    ),
    "every two batches, counted over epochs": (
        [*VAE, *PLATEAU, "--trainer.val_check_interval=2", "--trainer.check_val_every_n_epoch=null"],
        6,
    ),
    "amid accumulation": (
        [*VAE, *PLATEAU, "--trainer.val_check_interval=1", "--trainer.accumulate_grad_batches=3"],
        10,
    ),
    "max_steps": ([*VAE, *PLATEAU, "--trainer.max_steps=10", "--trainer.max_epochs=-1"], 3),
    "no validation": ([*VAE, "--trainer.limit_val_batches=0"], 3),
    "nothing to validate": ([*VAE, "--data.validation=0"], 3),
    "stopped early": ([*VAE, *STOPPING, "--trainer.max_epochs=9"], 4),
    "stepwise": ([*STEPWISE, "--trainer.val_check_interval=1"], 9),
    "stepwise, every second batch": ([*STEPWISE, "--trainer.val_check_interval=2"], 5),
    "stepwise, amid accumulation": (
        [*STEPWISE, "--trainer.val_check_interval=1", "--trainer.accumulate_grad_batches=2"],
        8,
    ),
}


class Stepwise(DiscreteVAE):
    """Follows the last validation after every optimiser step."""

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        scheduler = ReduceLROnPlateau(optimizer, factor=0.9, patience=0, threshold=10)
        config: Any = {"scheduler": scheduler, "monitor": "val/loss", "interval": "step", "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": config}


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to which every last.ckpt that is written is copied."""
    monkeypatch.chdir(tmp_path)
    return copied(tmp_path / "copies", monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize(("words", "number"), RUNS.values(), ids=RUNS)
def test_every_checkpoint_leads_to_the_same_end(words: list[str], number: int, copies: Path) -> None:
    main([*words, "--trainer.default_root_dir=whole"])
    whole, kept = last(Path("whole")), sorted(copies.iterdir())
    assert len(kept) == number
    for copy in kept:
        assert torch.load(copy, weights_only=True)["global_step"] > 0
        main([*words[:1], f"--ckpt_path={copy}", f"--trainer.default_root_dir={copy.stem}"])
        end = last(Path(copy.stem)) if Path(copy.stem, "checkpoints").exists() else torch.load(copy, weights_only=True)
        assert differences(parts(end), parts(whole)) == [], copy.name


LONGER = {
    "every epoch": (),
    "every second epoch": ("--trainer.check_val_every_n_epoch=2",),
    "twice an epoch": ("--trainer.val_check_interval=0.5",),
    "every three batches": ("--trainer.val_check_interval=3", "--trainer.check_val_every_n_epoch=null"),
    "every four batches": ("--trainer.val_check_interval=4", "--trainer.check_val_every_n_epoch=null"),
    "amid accumulation": ("--trainer.val_check_interval=1", "--trainer.accumulate_grad_batches=3"),
    "no validation": ("--trainer.limit_val_batches=0",),
}


@pytest.mark.long
@pytest.mark.parametrize("words", LONGER.values(), ids=LONGER)
def test_finished_run_made_longer_ends_as_one_that_was_long_from_the_start(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main([*VAE, *words, "--trainer.max_epochs=4", "--trainer.default_root_dir=long"])
    main([*VAE, *words, "--trainer.max_epochs=2", "--trainer.default_root_dir=short"])
    assert last(Path("short"))["global_step"] in (4, 8)
    more = ["fit", "--ckpt_path=short/checkpoints/last.ckpt", "--trainer.max_epochs=4"]
    main([*more, "--trainer.default_root_dir=longer"])
    assert differences(parts(last(Path("longer"))), parts(last(Path("long")))) == []


SHORT = [word for word in TOY if word != "--trainer.logger=false"]
EPOCHS = [word for word in VAE if word != "--trainer.logger=false"]
EARLY = [*EPOCHS, *STOPPING, "--trainer.max_epochs=9"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "more", "told"),
    [
        (SHORT, [], "the checkpoint is at step 8, trainer.max_steps 8; give more, or measure it as it is by test"),
        (SHORT, ["--model.estimator=ReinMax", "--trainer.max_steps=2"], "at step 8, trainer.max_steps 2; give more"),
        (EPOCHS, [], "at step 12, at the end of epoch 3, trainer.max_epochs 3; give more"),
        (EARLY, [], "at step 12, where its run was ended early; begin a new one, or measure it as it is by test"),
    ],
    ids=["steps", "fewer steps", "epochs", "stopped early"],
)
def test_a_run_with_nothing_left_says_so_in_place_of_a_result(
    words: list[str],
    more: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")  # one line
    main(words)
    capsys.readouterr()
    path = "lightning_logs/version_0/checkpoints/last.ckpt"
    main(["fit", f"--ckpt_path={path}", *more])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("nothing left to train: ")
    assert told in line
    assert line.endswith(f"--ckpt_path {path}")
    assert [one.name for one in Path("lightning_logs").iterdir()] == ["version_0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "more", "told"),
    [
        (SHORT, "--trainer.max_steps=9", "training goes on after step 8, in epoch 1"),
        (EPOCHS, "--trainer.max_epochs=4", "training goes on after step 12, in epoch 4"),
    ],
    ids=["steps", "epochs"],
)
def test_a_run_that_goes_on_says_where(
    words: list[str],
    more: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero")
    main(words)
    assert "training goes on" not in caplog.text
    main(["fit", "--ckpt_path=lightning_logs/version_0/checkpoints/last.ckpt", more])
    assert told in caplog.text
    assert "result" in capsys.readouterr().out
