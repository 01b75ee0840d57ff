"""Ctrl-C and TERM: the step at hand is finished and saved; resumed, the run is the uninterrupted one, bit for bit."""

import csv
import logging
import os
import signal
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_copies import parts
from kills import command, differences
from lightning import Callback, Trainer
from test_resumption import PLATEAU, STOPPING, VAE

from ils_lightning.callbacks.interruption import Interruption, ended_like_by_ctrl_c
from ils_lightning.cli import main

WORDS = ["fit", "--model.estimator=GumbelSoftmax", "--data=SingleDraws", "--model.loss=RBFEnergy", "--model.chunk=1"]
WORDS += ["--trainer.max_steps=12", "--trainer.val_check_interval=9", "--trainer.accumulate_grad_batches=3"]
WORDS += ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]


LOGGER = "lightning.pytorch.loggers.CSVLogger"


class Press(Callback):
    """Sends this process a signal, once, before a training batch, or at the start of the first validation."""

    def __init__(self, number: int, batch: int, epoch: int = 0) -> None:
        self.number, self.batch, self.epoch = number, batch, epoch

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            os.kill(os.getpid(), self.number)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.batch < 0 and not trainer.sanity_checking:
            os.kill(os.getpid(), self.number)


def press(number: int, batch: int, epoch: int = 0) -> list[str]:
    init = f'{{"number": {int(number)}, "batch": {batch}, "epoch": {epoch}}}'
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


@pytest.mark.slow
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
def test_an_interrupted_run_goes_on_from_its_last_step(
    number: int, batch: int, steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero")
    main([*WORDS, "--trainer.default_root_dir=whole"])
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        main([*WORDS, "--trainer.default_root_dir=part", *press(number, batch)])
    assert stop.value.code == 1
    assert caplog.messages[-1].startswith(f"stopped after optimiser step {steps}; go on with --ckpt_path ")
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


@pytest.mark.long
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
    assert differences(parts(last("rest")), parts(last("whole"))) == []


LOGGED = [word for word in VAE if word not in ("--trainer.logger=false", "--trainer.max_epochs=3")]
LOGGED += ["--trainer.max_epochs=4", "--trainer.log_every_n_steps=1"]
OFTEN = "--trainer.val_check_interval=2"
THIRDS = ["--trainer.val_check_interval=0.25", "--trainer.accumulate_grad_batches=3"]
OVER_EPOCHS = ["--trainer.val_check_interval=3", "--trainer.check_val_every_n_epoch=null"]


def written(part: str) -> list[dict[str, str]]:
    """What the runs in folders of this name logged, in order, without what belongs to the end of a process."""
    lines: list[dict[str, str]] = []
    for path in sorted(Path().glob(f"{part}*/metrics.csv")):
        with path.open() as file:
            lines += [{name: value for name, value in line.items() if value} for line in csv.DictReader(file)]
    return [line for line in lines if any(name.startswith(("train/", "val/")) for name in line)]


@pytest.mark.long
@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("options", "batch", "step"),
    [
        ([], 1, 2),
        ([OFTEN], 1, 2),
        ([OFTEN], 2, 3),
        ([OFTEN, *STOPPING], 1, 2),
        (THIRDS, 0, 1),
        (OVER_EPOCHS, 2, 3),
    ],
    ids=["no validation", "before one", "after one", "before one that counts", "amid accumulation", "over epochs"],
)
def test_a_signal_leaves_out_no_line_and_no_validation(number: int, options: list[str], batch: int, step: int) -> None:
    def run(folder: str, *more: str) -> None:
        where = [f"--trainer.logger={LOGGER}", f"--trainer.logger.name={folder}", "--trainer.logger.version=."]
        main([*LOGGED, *options, *where, "--trainer.logger.save_dir=.", *more])

    run("whole")
    with pytest.raises(SystemExit, match="1"):
        run("part0", *press(number, batch))
    assert last("part0")["global_step"] == step
    run("part1", "--ckpt_path=part0/checkpoints/last.ckpt")
    assert differences(parts(last("part1")), parts(last("whole"))) == []
    assert written("part") == written("whole")
    assert any("val/loss" in line for line in written("whole"))


@pytest.mark.long
@pytest.mark.usefixtures("_alone")
def test_accumulation_by_a_schedule_goes_on_within_an_epoch() -> None:
    schedule = ["--trainer.callbacks+=GradientAccumulationScheduler", "--trainer.callbacks.scheduling={0: 1, 1: 2}"]
    words = [*VAE, *schedule]
    main([*words, "--trainer.default_root_dir=whole"])
    with pytest.raises(SystemExit, match="1"):
        main([*words, "--trainer.default_root_dir=part", *press(signal.SIGTERM, 1, epoch=1)])
    assert last("part")["global_step"] == 5
    main([*words, "--ckpt_path=part/checkpoints/last.ckpt", "--trainer.default_root_dir=rest"])
    assert last("whole")["global_step"] == 8
    assert differences(parts(last("rest")), parts(last("whole"))) == []


@pytest.mark.long
@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_checkpoint_of_ones_own_takes_nothing_from_signals(number: int) -> None:
    own = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.every_n_train_steps=3"]
    with pytest.raises(SystemExit, match="1"):
        main([*VAE, *own, "--trainer.default_root_dir=part", *press(number, 1)])
    assert last("part")["global_step"] == 2


@pytest.mark.long
@pytest.mark.usefixtures("_alone")
def test_a_run_without_checkpoints_that_is_ended_by_term_does_not_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*VAE, "--trainer.enable_checkpointing=false", *press(signal.SIGTERM, 1)])
    assert "error: ended by TERM before the training was done" in capsys.readouterr().err


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


@pytest.mark.long
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
