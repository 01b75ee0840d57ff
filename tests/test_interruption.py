"""Ctrl-C and TERM: the step at hand is finished and saved; resumed, the run is the uninterrupted one, bit for bit."""

import os
import signal
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_copies import PARTS
from kills import command, differences
from lightning import Callback, Trainer
from test_resumption import PLATEAU, VAE

from ils_lightning.callbacks.interruption import Interruption, ended_like_by_ctrl_c
from ils_lightning.cli import main

WORDS = ["fit", "--model.estimator=GumbelSoftmax", "--data=SingleDraws", "--model.loss=RBFEnergy", "--model.chunk=1"]
WORDS += ["--trainer.max_steps=12", "--trainer.val_check_interval=9", "--trainer.accumulate_grad_batches=3"]
WORDS += ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]


class Press(Callback):
    """Sends this process a signal before a training batch, or at the start of the first validation."""

    def __init__(self, number: int, batch: int) -> None:
        self.number, self.batch = number, batch

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batch:
            os.kill(os.getpid(), self.number)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.batch < 0 and not trainer.sanity_checking:
            os.kill(os.getpid(), self.number)


def press(number: int, batch: int) -> list[str]:
    init = f'{{"number": {int(number)}, "batch": {batch}}}'
    return ["--trainer.callbacks+=test_interruption.Press", f"--trainer.callbacks.init_args={init}"]


def last(folder: str) -> dict[str, Any]:
    return torch.load(Path(folder, "checkpoints/last.ckpt"), weights_only=True)


@pytest.fixture(autouse=True)
def _terminal() -> Iterator[None]:
    """A closed terminal ends a process, even where the tests themselves are run by nohup."""
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)


@pytest.fixture
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(
    ("number", "batch", "steps"),
    [
        (signal.SIGINT, 6, 3),
        (signal.SIGTERM, 7, 3),
        (signal.SIGHUP, 8, 3),
        (signal.SIGINT, 17, 6),
        (signal.SIGINT, -1, 3),
    ],
    ids=["first batch of a step", "TERM within a step", "HUP", "last batch of a step", "validation"],
)
def test_an_interrupted_run_goes_on_from_its_last_step(number: int, batch: int, steps: int) -> None:
    main([*WORDS, "--trainer.default_root_dir=whole"])
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        main([*WORDS, "--trainer.default_root_dir=part", *press(number, batch)])
    assert stop.value.code == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert last("part")["global_step"] == steps
    main(
        [
            *WORDS,
            "--trainer.default_root_dir=rest",
            "--ckpt_path=part/checkpoints/last.ckpt",
            "--trainer.callbacks=null",
        ]
    )
    for part in ("state_dict", "optimizer_states", "random_states", "curve"):
        assert differences(last("rest")[part], last("whole")[part]) == []


@pytest.mark.slow
@pytest.mark.usefixtures("_alone")
@pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned on metric val/loss:RuntimeWarning")
@pytest.mark.parametrize("validation", ["check_val_every_n_epoch=1", "check_val_every_n_epoch=2"])
def test_what_ends_with_an_epoch_is_done_before_a_run_is_left(validation: str) -> None:
    """A signal in the last batch of the first epoch, which is validated or not."""
    words = [*VAE, *PLATEAU, f"--trainer.{validation}"]
    main([*words, "--trainer.default_root_dir=whole"])
    with pytest.raises(SystemExit, match="1"):
        main([*words, "--trainer.default_root_dir=part", *press(signal.SIGTERM, 3)])
    assert last("part")["global_step"] == 4
    again = ["--trainer.default_root_dir=rest", "--trainer.callbacks=null"]
    main([*words, "--ckpt_path=part/checkpoints/last.ckpt", *again])
    whole, rest = last("whole"), last("rest")
    assert differences({part: rest[part] for part in PARTS}, {part: whole[part] for part in PARTS}) == []


def test_a_closed_terminal_is_ignored_where_it_was_before() -> None:
    """By nohup, say."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interruption = Interruption()
    interruption.listen()
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not interruption.requested
    finally:
        interruption.ignore()
        signal.signal(signal.SIGHUP, former)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_comparison_like_ctrl_c_and_a_second_one_changes_nothing(number: int) -> None:
    former = signal.getsignal(number)
    with ended_like_by_ctrl_c():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is former


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_saves_what_a_comparison_trains(number: int, workers: int, tmp_path: Path) -> None:
    words = ["compare", "compare/toy1", "--folder=out", f"--workers={workers}", "--override=trainer.max_steps=1000000"]
    process = get_context("fork").Process(target=command, args=(words, tmp_path))
    process.start()
    while len(list(tmp_path.rglob("last.ckpt"))) < workers:
        process.join(0.02)
        assert process.is_alive()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("last.ckpt")}
    os.kill(process.pid or 0, number)
    process.join()
    assert process.exitcode == 130
    assert len(before) == workers
    assert all(path.stat().st_mtime_ns > written for path, written in before.items())


def test_the_second_ctrl_c_ends_at_once() -> None:
    former = signal.getsignal(signal.SIGINT)
    interruption = Interruption()
    interruption.listen()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        interruption.ignore()
    assert signal.getsignal(signal.SIGINT) is former
