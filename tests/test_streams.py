"""Output that nobody reads: a run goes on, and ends as it would have."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ils_lightning.cli import streams

FIT = [sys.executable, "-m", "ils_lightning", "fit", "--model.chunk=1", "--trainer.max_steps=30"]
FIT += ["--trainer.val_check_interval=1", "--trainer.accelerator=cpu", "--trainer.logger=false"]


def test_a_pipe_without_a_reader_takes_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    number = os.dup(1)
    try:
        os.dup2(writer, 1)
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8"))
        streams.endure()
        print("read", flush=True)
        assert os.read(reader, 100) == b"read\n"
        os.close(reader)
        print("not read", flush=True)
        print("nor this", flush=True)
    finally:
        os.dup2(number, 1)
        os.close(number), os.close(writer)


def test_streams_that_were_closed_before_the_start_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    streams.endure()
    for stream in (sys.stdout, sys.stderr):
        assert stream.write("text") == 4
        stream.close()


@pytest.mark.long
def test_a_fit_whose_reader_ends_goes_on(tmp_path: Path) -> None:
    """As in `fit | head -1`."""
    with subprocess.Popen(FIT, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
    assert process.returncode == 0
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 30


@pytest.mark.long
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_fit_without_output_trains(closed: str, tmp_path: Path) -> None:
    assert subprocess.run(f"exec {' '.join(FIT)} {closed}", shell=True, cwd=tmp_path, check=False).returncode == 0
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 30
