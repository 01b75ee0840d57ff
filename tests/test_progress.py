"""The progress bar counts optimiser steps and draws at a bounded rate."""

import io
import re
import sys
from pathlib import Path

import pytest
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from ils_lightning.callbacks import StepProgress
from ils_lightning.callbacks.progress import _set_what_fits
from ils_lightning.cli import main


def test_the_bar_counts_optimiser_steps(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    main(
        [
            "fit",
            "--trainer.max_steps",
            "23",
            "--model.chunk",
            "5",
            "--trainer.logger",
            "false",
            "--trainer.enable_checkpointing",
            "false",
        ]
    )
    shown = capsys.readouterr().out
    assert "| 23/23 [" in shown
    assert "kl=" in shown
    assert "v_num" not in shown
    assert "Epoch" not in shown


@pytest.mark.parametrize("columns", [60, 72, 90, 110, 200])
def test_a_bar_shows_whole_quantities_or_none(columns: int) -> None:
    bar = Tqdm(desc="epoch 2/2", total=26, ncols=columns, file=io.StringIO(), bar_format=StepProgress.BAR_FORMAT)
    bar.n = 26
    metrics = {"train/loss": "24.33", "train/kl": "0.0123", "val/loss": "24.08"}
    _set_what_fits(bar, metrics)
    line = str(bar)
    assert len(line) <= columns
    shown = re.findall(r"[\w/]+=[\d.]+(?=[,\]])", line)
    assert shown == [f"{name}={value}" for name, value in metrics.items()][: line.count("=")]
    assert columns < 200 or len(shown) == 3


def test_a_negative_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        StepProgress(interval=-1)


@pytest.mark.slow
@pytest.mark.parametrize("validated", [True, False])
def test_a_log_file_gets_at_most_twenty_plain_lines(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validated: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--config=vae_digits", "--trainer.max_epochs=25", "--trainer.limit_train_batches=2"]
    words += ["--trainer.logger=false", "--trainer.enable_checkpointing=false"]
    main(["fit", *words, *([] if validated else ["--trainer.limit_val_batches=0"])])
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if line.startswith("step ")]
    assert lines[-1].startswith("step 50 of 50: ")
    assert 2 <= len(lines) <= 20
    assert ("val/loss" in lines[-1]) == validated
    assert "\r" not in shown
    assert "%|" not in shown


@pytest.mark.slow
def test_tables_in_a_log_file_break_no_word(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    folder = tmp_path / ("a_long_name" * 12)
    main(["fit", "--trainer.max_steps=23", f"--trainer.default_root_dir={folder}"])
    assert str(folder / "lightning_logs/version_0") in capsys.readouterr().out
