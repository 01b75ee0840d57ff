"""Refusals are one line; a defect keeps its traceback, wherever the package and the libraries lie."""

import builtins
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from torch.nn import functional

import ils_lightning.estimators.table
from ils_lightning import Refusal
from ils_lightning.cli import main
from ils_lightning.data import DiscreteData
from ils_lightning.describe import create, is_abstract
from ils_lightning.errors import cause
from ils_lightning.estimators import Estimator, ReinMax
from ils_lightning.estimators.baselines import Baseline
from ils_lightning.likelihoods import Likelihood
from ils_lightning.losses import ToyLoss
from ils_lightning.modules import CategoricalFit
from ils_lightning.modules.base import DiscreteModule
from ils_lightning.networks import Network
from ils_lightning.type_hints import class_names

FIT = ["fit", "--trainer.max_steps=4", "--model.chunk=2", "--trainer.val_check_interval=1", "--trainer.accelerator=cpu"]
FIT += ["--trainer.enable_progress_bar=false"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, lines
    return lines[0]


def defect() -> None:
    raise ValueError("a defect")


def in_torch() -> None:
    functional.ctc_loss(torch.zeros(1, 1, 2), torch.zeros(1, 1), torch.ones(1), torch.ones(1), reduction="all")


@pytest.mark.slow
@pytest.mark.parametrize("error", [defect, in_torch])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (CategoricalFit, "__init__"),
        (CategoricalFit, "training_step"),
        (CategoricalFit, "on_save_checkpoint"),
        (CategoricalFit, "parameter_groups"),
        (DiscreteData, "setup"),
        (ReinMax, "__init__"),
        (Callback, "on_fit_start"),
    ],
)
def test_a_value_error_that_nobody_raised_on_purpose_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, error: Callable
) -> None:
    monkeypatch.setattr(owner, name, wraps(getattr(owner, name))(lambda *_, **__: error()))
    with pytest.raises(ValueError, match=r"a defect|is not a valid value for reduction") as found:
        main([*FIT, "--model.estimator=ReinMax"])
    assert not isinstance(found.value, Refusal)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["ils_lightning/.venv/lightning/jsonargparse", "checkpoint_connector"])
@pytest.mark.parametrize("method", ["__init__", "setup", "on_save_checkpoint"])
@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("ValueError", "raise ValueError('a defect')"),
        ("TypeError", "raise TypeError('a defect')"),
        ("ModuleNotFoundError", "import a_module_that_is_missing"),
    ],
)
def test_so_does_an_error_in_a_part_of_ones_own_in_whatever_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, method: str, kind: str, line: str
) -> None:
    place = tmp_path / folder
    place.mkdir(parents=True)
    (place / "broken_part.py").write_text(
        "from lightning.pytorch.callbacks import Callback\n\n\nclass Broken(Callback):\n"
        f"    def {method}(self, *_, **__):\n        {line}\n"
    )
    monkeypatch.syspath_prepend(str(place))
    sys.modules.pop("broken_part", None)
    with pytest.raises(Exception, match=r"a defect|missing") as found:
        main([*FIT, "--trainer.callbacks+=broken_part.Broken"])
    assert type(cause(found.value)).__name__ == kind


def test_an_error_of_a_verb_of_its_own_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ils_lightning.estimators.table, "classes", lambda: defect())
    with pytest.raises(ValueError, match="a defect"):
        main(["estimators"])


class Broken(Estimator):
    def __init__(self, kind: str = "KeyError") -> None:
        raise getattr(builtins, kind)("a defect")


@pytest.mark.parametrize("kind", ["KeyError", "ValueError", "AttributeError", "TypeError"])
def test_a_description_of_a_class_with_a_defect_keeps_the_traceback(kind: str) -> None:
    with pytest.raises(Exception, match="a defect") as found:
        create({"class_path": f"{__name__}.Broken", "init_args": {"kind": kind}}, Estimator)
    assert type(cause(found.value)) is getattr(builtins, kind)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--trainer.accelerator=abacus"], "--trainer: no Trainer can be made of these options: "),
        (["--trainer.devices=-5"], "--trainer: no Trainer can be made of these options: `devices`"),
        (["--trainer.strategy=fsdp"], "--trainer: no Trainer can be made"),
        (["--trainer.profiler=stopwatch"], "--trainer: no Trainer can be made"),
        (["--trainer.max_time=x"], "--trainer: no Trainer can be made"),
        (["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=x", "--trainer.callbacks.mode=y"], "mode"),
        (["--trainer.logger=WandbLogger"], "wandb"),
        (
            ["--trainer.val_check_interval=1000", "--trainer.check_val_every_n_epoch=1"],
            "`val_check_interval` (1000) must be less than or equal",
        ),
        (["--seed_everything=-1"], "--seed_everything: must be from 0 to 4294967295; given -1"),
        (["--seed_everything=99999999999"], "--seed_everything: must be from 0 to 4294967295; given 99999999999"),
        (["--model.optimizer=Adam", "--model.optimizer.lr=-1"], "model.optimizer: Invalid learning rate: -1"),
        (["--model.lr_scheduler=OneCycleLR", "--model.lr_scheduler.max_lr=0.1"], "model.lr_scheduler: You must define"),
    ],
)
def test_what_other_libraries_refuse_is_one_line_too(
    capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert expected in refused(capsys, [*FIT, "--trainer.limit_train_batches=5", *words])
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value"), [("loops", "x"), ("optimizer_states", [7]), ("state_dict", {}), ("lr_schedulers", 7)]
)
def test_a_checkpoint_that_cannot_be_restored_is_one_line(
    capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    main([*FIT, "--trainer.logger=false"])
    path = Path("checkpoints/last.ckpt")
    torch.save(torch.load(path, weights_only=True) | {key: value}, path)
    assert refused(capsys, ["fit", f"--ckpt_path={path}", "--trainer.max_steps=8"]).startswith("error: ")


@pytest.mark.parametrize("name", ["MovingAverage", "NetworkBaseline"])
def test_a_class_is_suggested_whatever_its_file_is_called(capsys: pytest.CaptureFixture[str], name: str) -> None:
    words = [*FIT, "--model.estimator=Reinforce", f"--model.estimator.baseline={name[:-1]}"]
    assert f"did you mean '{name}'?; known: MovingAverage, NetworkBaseline" in refused(capsys, words)


@pytest.mark.parametrize("base", [Estimator, Baseline, DiscreteModule, DiscreteData, Likelihood, Network, ToyLoss])
def test_what_is_suggested_can_be_made_and_the_rest_cannot(base: type) -> None:
    def below(kind: type) -> set[type]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    own = {kind for kind in below(base) if kind.__module__.startswith("ils_lightning.")}
    named = {kind for kind in own if kind.__name__ in class_names(base)}
    assert is_abstract(base)
    assert named == {kind for kind in own if not is_abstract(kind) and not kind.__name__.startswith("_")}
