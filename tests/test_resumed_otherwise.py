"""Checkpoints that do not hold what a run needs to go on, and runs that are not those of their checkpoint: one line."""

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import attempt
from test_faults import QUICK, refusal, rewritten

from ils_lightning.cli import main

MORE = ["--trainer.max_steps=24", "--trainer.logger=false"]
ADAM = [*QUICK, "--model.optimizer=Adam", "--model.optimizer.lr=0.01"]
CYCLE = ["--model.lr_scheduler=CosineAnnealingLR", "--model.lr_scheduler.T_max=50"]
SWA = ["--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.init_args.swa_lrs=0.01"]
SWA += ["--trainer.callbacks.init_args.swa_epoch_start=1"]


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    main([*ADAM, *CYCLE])
    return tmp_path / "checkpoints/last.ckpt"


def state(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint, weights_only=True)


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_named_and_not_its_other_settings(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options of its data would be given to these, which may have none of that name or refuse the value."""
    tampered = torch.load(checkpoint, weights_only=True)
    tampered["configuration"]["data"] = {"class_path": "Digits", "init_args": {"batch_size": -3}}
    torch.save(tampered, checkpoint)
    line = refusal(capsys, "fit", "--config=vae_digits", f"--ckpt_path={checkpoint}", *MORE)
    assert "it is of a CategoricalFit, and this run has a DiscreteVAE" in line


@pytest.mark.slow
@pytest.mark.parametrize("states", [[], None, {}, [{}], [3], [{"state": {}, "param_groups": 3}]])
def test_an_optimiser_without_a_state_is_refused(
    states: Any, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rewritten(checkpoint, optimizer_states=states)
    assert "Adam" in refusal(capsys, "fit", f"--ckpt_path={path}", *MORE)


@pytest.mark.slow
def test_another_optimiser_is_refused(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "fit", f"--ckpt_path={checkpoint}", "--model.optimizer=SGD", "--model.optimizer.lr=1", *MORE)
    assert "the checkpoint holds the state of Adam, but this run has SGD" in line


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adamax", "Adagrad"])
def test_the_optimiser_of_a_checkpoint_that_does_not_name_it_is_known_by_its_options(
    name: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nameless = {key: one for key, one in state(checkpoint)["callbacks"].items() if key != "Resumption"}
    path = rewritten(checkpoint, callbacks=nameless)
    chosen = [f"--model.optimizer={name}", "--model.optimizer.lr=1"]
    line = refusal(capsys, "fit", f"--ckpt_path={path}", *chosen, *MORE)
    assert f"the checkpoint holds the state of another optimiser, but this run has {name}" in line


def damaged_streams() -> dict[str, Any]:
    return {
        "short": {"torch": torch.zeros(7, dtype=torch.uint8)},
        "of another kind": {"torch": torch.zeros(5056)},
        "no tensor": {"torch": 3},
        "short numpy": {"numpy": (torch.zeros(3, dtype=torch.int64), 0, 0, 0.0)},
        "python": {"python": (3, (1, 2), None)},
        "python version": {"python": (9, tuple([0] * 625), None)},
        "cuda": {"cuda": [3]},
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", damaged_streams())
def test_damaged_random_streams_are_refused(kind: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = [state(checkpoint)["random_states"][0] | damaged_streams()[kind]]
    path = rewritten(checkpoint, random_states=states)
    assert "the random_states in the checkpoint" in refusal(capsys, "fit", f"--ckpt_path={path}", *MORE)


@pytest.mark.slow
@pytest.mark.parametrize("states", [3, [3], {"torch": 1}, [[]]])
def test_what_is_no_random_stream_is_refused(states: Any, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rewritten(checkpoint, random_states=states)
    assert "the random_states in the checkpoint" in refusal(capsys, "fit", f"--ckpt_path={path}", *MORE)


@pytest.mark.slow
def test_schedulers_without_a_state_begin_anew_with_a_note(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero")
    main(["fit", f"--ckpt_path={rewritten(checkpoint, lr_schedulers=[])}", *MORE])
    assert "holds the states of 0 learning-rate schedulers, this run has 1" in caplog.text


@pytest.mark.slow
def test_the_same_command_has_the_same_callbacks_once(checkpoint: Path) -> None:
    """With a checkpoint in whose settings they are already."""
    schedule = ["--trainer.callbacks+=OptionSchedule", "--trainer.callbacks.init_args.option=step_size"]
    schedule += ["--trainer.callbacks.init_args.schedule=Constant", "--trainer.callbacks.init_args.schedule.value=0.3"]
    main([*ADAM, *schedule, "--trainer.default_root_dir=first"])
    again = ["--ckpt_path=first/checkpoints/last.ckpt", "--trainer.max_steps=24", "--trainer.default_root_dir=second"]
    main([*ADAM, *schedule, *again])
    configuration = torch.load("second/checkpoints/last.ckpt", weights_only=True)["configuration"]
    (one,) = configuration["trainer"]["callbacks"]
    assert one["init_args"]["schedule"]["init_args"]["value"] == 0.3


@pytest.mark.slow
@pytest.mark.parametrize("again", [[], SWA], ids=["from the checkpoint", "the same command"])
def test_a_run_with_averaged_weights_goes_on(again: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    vae = ["--model=DiscreteVAE", "--model.estimator=ReinMax", "--model.image_shape=[1,8,8]", "--data=Digits"]
    vae += ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu"]
    vae += ["--trainer.enable_progress_bar=false", "--trainer.logger=false", "--model.importance_samples=2"]
    main(["fit", *vae, *SWA, "--trainer.max_epochs=3"])
    main(["fit", "--ckpt_path=checkpoints/last.ckpt", *again, "--trainer.max_epochs=5"])
    found = state(Path("checkpoints/last.ckpt"))
    assert found["global_step"] == 10
    assert all(math.isfinite(float(one.float().sum())) for one in found["state_dict"].values())


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn"])
def test_what_a_forked_rank_is_refused_for_is_one_line(strategy: str, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    words = [*QUICK, f"--trainer.strategy={strategy}", "--trainer.devices=2", "--trainer.callbacks+=OptionSchedule"]
    words += ["--trainer.callbacks.init_args.option=nothing", "--trainer.callbacks.init_args.schedule=Constant"]
    found = attempt([*words, "--trainer.callbacks.init_args.schedule.value=1"], folder)
    assert found.status == 2, found
    # torch ends the other rank by TERM; where that had semaphores, Python's tracker of them says so after all else
    said = [line for line in found.errors if "resource_tracker" not in line]
    assert [line for line in said if line.startswith("error: ")] == [said[-1]]
    assert "OptionSchedule: the model has no option 'nothing'" in said[-1]
    assert not any("Traceback" in line for line in found.errors)
