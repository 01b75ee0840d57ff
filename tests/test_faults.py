"""Disks that are full or read-only, and checkpoints of other versions: one clear line, and nothing saved is lost."""

import os
import random
import re
import resource
import signal
import sys
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import FITS, fit, grid, starts, training_seconds, trial
from lightning import Trainer

from ils_lightning import Refusal, __version__, atomic
from ils_lightning.checkpoint_io import CompleteCheckpoints, use_complete_checkpoints
from ils_lightning.cli import main
from ils_lightning.estimators import ReinMax
from ils_lightning.modules import DiscreteVAE
from ils_lightning.modules.base import VERSION

KILLED = ["VAE, ReduceLROnPlateau", "toy, moving average, accumulated gradients", "a module of one's own"]
QUICK = ["fit", "--trainer.max_steps=20", "--model.chunk=5", "--trainer.val_check_interval=1"]
QUICK += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
KILLED = ["VAE, ReduceLROnPlateau", "toy, moving average, accumulated gradients", "a module of one's own"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def checkpoint(folder: Path) -> Path:
    main(QUICK)
    return folder / "checkpoints/last.ckpt"


def rewritten(path: Path, **change: object) -> Path:
    """A copy of a checkpoint with some entries changed."""
    other = path.with_name("other.ckpt")
    torch.save(torch.load(path, weights_only=True) | change, other)
    return other


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, lines
    return lines[0]


def limited(words: list[str], size: int, output: Path) -> None:
    """Runs a command that may write no file above `size` bytes."""
    sys.stderr = output.open("w")
    os.dup2(sys.stderr.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    main(words)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "lost"),
    [
        ([*QUICK, "--trainer.max_steps=40", "--ckpt_path=checkpoints/last.ckpt"], ".ckpt"),
        (
            [*QUICK, "--trainer.logger=true", "--trainer.enable_checkpointing=false", "--trainer.max_steps=1000"],
            "lightning_logs/version_0/",  # of its files that which is too large first, written by a thread of its own
        ),
    ],
    ids=["checkpoint", "log"],
)
def test_a_full_disk_is_one_line_and_the_old_file_stays(checkpoint: Path, words: list[str], lost: str) -> None:
    before = checkpoint.read_bytes()
    process = get_context("fork").Process(target=limited, args=(words, 3000, Path("output.txt")))
    process.start()
    process.join()
    assert process.exitcode == 2
    lines = [line for line in Path("output.txt").read_text().splitlines() if line.startswith(("error", "Traceback"))]
    assert len(lines) == 1
    assert re.search(rf"cannot read or write \S*{lost}\S*: File too large. What was saved before stays", lines[0])
    assert checkpoint.read_bytes() == before
    assert list(checkpoint.parent.glob("*partial*")) == []


@pytest.mark.slow
def test_a_log_folder_that_cannot_be_written_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert "cannot read or write" in refusal(capsys, *QUICK, "--trainer.default_root_dir=file/logs")
    assert "cannot read or write" in refusal(capsys, "compare", "compare/toy1_paired", "--folder=file/out")


def test_what_fails_halfway_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")

    def write_half() -> None:
        with atomic.replacing(target) as incomplete:
            incomplete.write_text("ne")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert target.read_text() == "old"


def _write_for_ever(target: Path) -> None:
    with atomic.replacing(target) as incomplete:
        incomplete.write_text("ne")
        signal.pause()


def test_what_a_killed_process_left_half_written_is_removed_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    writers = [get_context("fork").Process(target=_write_for_ever, args=(tmp_path / name,)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    while sum(path.stat().st_size > 0 for path in tmp_path.iterdir()) < 2:
        writers[0].join(0.01)
    writers[0].kill()
    writers[0].join()
    atomic.write_text("new", tmp_path / "c")
    assert sorted(path.name.strip(".")[0] for path in tmp_path.iterdir()) == ["b", "c"]
    writers[1].kill()
    writers[1].join()
    (tmp_path / ".download.partial").touch()  # somebody else's
    atomic.remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".download.partial", "c"]


@pytest.mark.slow
def test_a_resumed_run_tidies_up_beside_its_checkpoint(checkpoint: Path) -> None:
    left = checkpoint.with_name(".best.ckpt.0123abcd.partial")
    left.touch()
    main(["fit", f"--ckpt_path={checkpoint}", "--trainer.max_steps=24", "--trainer.default_root_dir=rest"])
    assert not left.exists()


def test_a_strategy_with_its_own_way_of_writing_keeps_it() -> None:
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    own = type("Own", (CompleteCheckpoints,), {})()
    trainer.strategy.checkpoint_io = own
    use_complete_checkpoints(trainer)
    assert trainer.strategy.checkpoint_io is own


@pytest.mark.slow
def test_a_checkpoint_of_another_minor_version_is_noted_and_loads(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert torch.load(checkpoint, weights_only=True)[VERSION] == __version__
    old = rewritten(checkpoint, **{VERSION: "0.0.9"})
    capsys.readouterr()
    main(["test", f"--ckpt_path={old}", "--trainer.logger=false"])
    assert f"note: ils_lightning 0.0.9 wrote the checkpoint; this is {__version__}" in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_checkpoint_lacks_is_named(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    old = rewritten(checkpoint, state_dict={"weights": weights["logits"]}, **{VERSION: "0.0.9"})
    line = refusal(capsys, "test", f"--ckpt_path={old}", "--trainer.logger=false")
    assert (
        f"written by ils_lightning 0.0.9, are not those of this CategoricalFit of ils_lightning {__version__}" in line
    )
    assert 'Missing key(s) in state_dict: "logits"' in line
    assert 'Unexpected key(s) in state_dict: "weights"' in line


def perceptron(hidden: int) -> dict[str, Any]:
    return {"class_path": "MLP", "init_args": {"hidden": [hidden]}}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"latents": 3, "kl_warmup": 0}, "model.latents is 3, the checkpoint has 4"),
        ({"encoder": perceptron(4)}, "model.encoder.hidden is [4], the checkpoint has [6]"),
        ({"decoder": "ConvDecoder"}, "model.decoder is ConvDecoder, the checkpoint has MLP"),
    ],
    ids=["number", "option of a part", "part"],
)
def test_weights_of_other_sizes_are_told_by_the_options_they_follow_from(options: dict[str, Any], told: str) -> None:
    usual = {"latents": 4, "categories": 2, "image_shape": [1, 8, 8], "kl_warmup": 0}
    parts: dict[str, Any] = {"encoder": perceptron(6), "decoder": perceptron(6), **usual}
    saved = DiscreteVAE(ReinMax(), **parts)
    checkpoint = {"state_dict": saved.state_dict(), "hyper_parameters": dict(saved.hparams)}
    model = DiscreteVAE(ReinMax(), **{**parts, **options})
    model.on_load_checkpoint(checkpoint)
    with pytest.raises(Refusal) as found:
        model.load_state_dict(checkpoint["state_dict"])
    assert str(found.value) == f"the checkpoint's weights do not fit this DiscreteVAE: {told}"


@pytest.mark.long
@pytest.mark.parametrize(
    "job",
    [*(partial(fit, FITS[name]) for name in KILLED), partial(grid, 1), partial(grid, 2)],
    ids=[*KILLED, "one worker", "two workers"],
)
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(job: partial, tmp_path: Path) -> None:
    """`python experiments/kills.py 20` does the same twenty times over."""
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for one in folders:
        one.mkdir()
    whole = job(folders[0], [])
    assert trial(job, folders[1], whole, training_seconds(folders[0]), random.Random(1)) == []
    assert job.func is grid or any(step > 0 for step, _ in starts(folders[1]))
