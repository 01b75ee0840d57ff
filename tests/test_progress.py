"""The progress bar counts optimiser steps and draws at a bounded rate."""

from pathlib import Path

import pytest

from ils_lightning.callbacks import StepProgress
from ils_lightning.cli import main


def test_the_bar_counts_optimiser_steps(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
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


def test_a_negative_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        StepProgress(interval=-1)
