"""A checkpoint from somewhere else imports nothing, calls nothing, and does not say where to write or what to fetch."""

import socket
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hostile import Case, attempt, complaints
from lightning import LightningDataModule, LightningModule

import ils_lightning.cli.diagnosing
import ils_lightning.cli.sample  # noqa: F401 (imported once, for all processes that are forked)
from ils_lightning import Refusal, vetted
from ils_lightning.compare.grid.keys import assign

QUICK = ["--trainer.max_steps=4", "--model.chunk=2", "--trainer.val_check_interval=1", "--trainer.accelerator=cpu"]
QUICK += ["--trainer.enable_progress_bar=false", "--trainer.logger=false"]
MODEL = {
    "class_path": "ils_lightning.modules.CategoricalFit",
    "init_args": {
        "estimator": {"class_path": "ils_lightning.estimators.ReinMax", "init_args": {"temperature": 1.3}},
        "loss": {"class_path": "RBFEnergy"},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        "lr_scheduler": {"class_path": "lightning.pytorch.cli.ReduceLROnPlateau", "init_args": {"monitor": "val/loss"}},
    },
}
DATA = {"class_path": "ils_lightning.data.ImageData", "init_args": {"name": "mnist", "data_dir": "/somewhere"}}
CALL = {"class_path": "torch.utils.collect_env.run", "init_args": {"command": "touch called"}}
LAMBDA = {"class_path": "torch.optim.lr_scheduler.LambdaLR", "init_args": {"lr_lambda": CALL}}
PRIOR = {"class_path": "CodePrior", "init_args": {"tokenizer": {"estimator": {"class_path": "marking.Thing"}}}}


def having(description: dict, key: str, value: Any) -> dict:
    changed = deepcopy(description)
    assign(changed, key, value)
    return changed


def test_what_this_package_writes_is_taken_as_it_is() -> None:
    assert vetted.part(MODEL, LightningModule, "model")["init_args"] == MODEL["init_args"] | {
        "loss": {"class_path": "RBFEnergy", "init_args": {}}
    }


def test_nothing_is_downloaded_for_a_checkpoint() -> None:
    found = vetted.part(having(DATA, "init_args.download", True), LightningDataModule, "data")
    assert found["init_args"] == {"name": "mnist", "data_dir": "/somewhere", "download": False}
    assert vetted.part(DATA, LightningDataModule, "data")["init_args"]["download"] is False


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class_path", "marking.Thing"),
        ("class_path", "os.system"),
        ("class_path", "ils_lightning.compare.compare"),
        ("class_path", "ils_lightning.modules.os.system"),
        ("class_path", "ils_lightning.data.Digits"),
        ("class_path", 7),
        ("dict_kwargs", {"command": "touch called"}),
        ("init_args", [CALL]),
        ("init_args", {"estimator.class_path": "marking.Thing"}),
        ("init_args", {"estimator+": "marking.Thing"}),
        ("init_args.estimator", "marking.Thing"),
        ("init_args.estimator", "torch.load"),
        ("init_args.estimator", "http://127.0.0.1/estimator.yaml"),
        ("init_args.estimator", "local://estimator.yaml"),
        ("init_args.estimator", "estimator.yaml"),
        ("init_args.estimator", {"init_args": {"estimator": "marking.Thing"}}),
        ("init_args.estimator", CALL),
        ("init_args.estimator", {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "called"]}}),
        ("init_args.estimator", {"class_path": "Average", "init_args": {"estimator": "marking.Thing"}}),
        ("init_args.estimator", {"class_path": "Average", "init_args": {"estimator": CALL}}),
        ("init_args.estimator", {"class_path": "ReinMax", "init_args": {"temperature": CALL}, "dict_kwargs": {}}),
        ("init_args.estimator", {"class_path": "ReinMax", "init_args": {"temperature": torch.ones(1)}}),
        ("init_args.estimator", {"class_path": "ReinMax", "init_args": {"temperature": torch.load}}),
        ("init_args.optimizer", "torch.load"),
        ("init_args.optimizer", CALL),
        ("init_args.optimizer", {"class_path": "torch.optim.SGD", "init_args": {"unknown": "marking.Thing"}}),
        ("init_args.optimizer", {"class_path": "torch.optim.Optimizer.__init__"}),
        ("init_args.lr_scheduler", LAMBDA),
        ("init_args.lr_scheduler", {"class_path": "LambdaLR", "init_args": {"lr_lambda": ["os.system"]}}),
        ("init_args.lr_scheduler", {"class_path": "MultiplicativeLR", "init_args": {"lr_lambda": "os.system"}}),
        ("init_args.lr_scheduler", {"class_path": "CyclicLR", "init_args": {"scale_fn": CALL}}),
        ("init_args.unknown", "marking.Thing"),
        ("init_args.unknown", CALL),
        ("init_args.unknown", {"deep": [{"deeper": CALL}]}),
    ],
)
def test_what_is_no_known_class_is_refused(key: str, value: Any) -> None:
    with pytest.raises(Refusal):
        vetted.part(having(MODEL, key, value), LightningModule, "model")


@pytest.mark.parametrize("value", ["http://127.0.0.1/x.ckpt", "ftp://x:y@127.0.0.1/x.ckpt", "local://x.ckpt"])
def test_an_address_is_refused_wherever_a_file_may_stand(value: str) -> None:
    model = {"class_path": "CodePrior", "init_args": {"tokenizer": value}}
    with pytest.raises(Refusal, match="a checkpoint names no address"):
        vetted.part(model, LightningModule, "model")
    with pytest.raises(Refusal, match="a checkpoint names no address"):
        vetted.part(having(DATA, "init_args.data_dir", value), LightningDataModule, "data")


def test_a_class_in_the_settings_of_an_inner_model_is_looked_at_too() -> None:
    with pytest.raises(Refusal, match=r"model\.tokenizer\.estimator"):
        vetted.part(PRIOR, LightningModule, "model")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("default_root_dir", "/elsewhere"),
        ("default_root_dir", "ftp://x:y@127.0.0.1/loot"),
        ("logger", {"class_path": "CSVLogger", "init_args": {"save_dir": "/elsewhere"}}),
        ("logger", [{"class_path": "CSVLogger"}]),
        ("profiler", {"class_path": "SimpleProfiler", "init_args": {"dirpath": "/elsewhere"}}),
        ("strategy", "marking.Thing"),
        ("strategy", {"class_path": "marking.Thing"}),
        ("plugins", ["marking.Thing"]),
        ("accelerator", "marking.Thing"),
        ("precision", "a/b"),
        ("model_registry", "somebody/model"),
        ("callbacks", {"class_path": "marking.Thing"}),
        ("callbacks", "marking.Thing"),
        ("callbacks", ["marking.Thing"]),
        ("callbacks", [{"class_path": "marking.Thing"}]),
        ("callbacks", [CALL]),
        ("callbacks", [{"class_path": "LambdaCallback", "init_args": {"setup": CALL}}]),
        ("callbacks", [{"class_path": "lightning.pytorch.callbacks.OnExceptionCheckpoint"}]),
        ("callbacks", [{"class_path": "ModelCheckpoint", "init_args": {"dirpath": "elsewhere"}}]),
        ("callbacks", [{"class_path": "ModelCheckpoint", "init_args": {"dirpath": "ftp://x:y@127.0.0.1/loot"}}]),
        ("callbacks", [{"class_path": "ModelCheckpoint", "init_args": {"filename": "../../precious"}}]),
        ("callbacks", [{"class_path": "ModelCheckpoint", "init_args": {"filename": "/etc/precious"}}]),
        ("callbacks", [{"class_path": "LastCheckpoint", "init_args": {"dirpath": "elsewhere"}}]),
        ("callbacks", [{"class_path": "StochasticWeightAveraging", "init_args": {"swa_lrs": 0.1, "avg_fn": CALL}}]),
        ("callbacks", [{"class_path": "EarlyStopping", "init_args": {"monitor": "x"}, "dict_kwargs": {}}]),
        ("num_nodes", 2),
        ("made_up", 7),
    ],
)
def test_what_writes_elsewhere_or_calls_is_not_taken_of_the_trainers_options(option: str, value: Any) -> None:
    taken, left_out = vetted.trainer({"max_steps": 3, option: value, "profiler_": None}, set())
    assert taken | {"callbacks": []} == {"max_steps": 3, "callbacks": []}
    assert left_out == [option]


def test_numbers_words_and_harmless_callbacks_of_the_trainer_are_taken() -> None:
    options = {"max_steps": 3, "devices": [0, 1], "precision": "16-mixed", "gradient_clip_val": 0.5, "logger": False}
    options["callbacks"] = [
        {"class_path": "ils_lightning.callbacks.GradientProbe", "init_args": {"every": 3}},
        {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss"}},
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"dirpath": None, "filename": "x"}},
        {"class_path": "lightning.pytorch.callbacks.Timer", "init_args": {"duration": "00:12:00:00"}},
    ]
    assert vetted.trainer({**options, "profiler": None}, set()) == (options, [])


def test_null_is_taken_where_it_is_a_choice() -> None:
    options = {"check_val_every_n_epoch": None, "val_check_interval": 3}
    assert vetted.trainer(options, set()) == (options, [])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint, beside a module that leaves marks when it is imported, and when a class is made."""
    modules, run = tmp_path / "modules", tmp_path / "run"
    modules.mkdir(), run.mkdir()
    (modules / "marking.py").write_text(
        "from pathlib import Path\nfrom lightning.pytorch.callbacks import Callback\n"
        "from ils_lightning.estimators import ReinMax\n"
        f"Path({str(tmp_path / 'imported')!r}).touch()\n\n"
        f"class Thing(Callback):\n    def __init__(self):\n        Path({str(tmp_path / 'called')!r}).touch()\n\n"
        "class Mine(ReinMax):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(modules))
    connect = f"import pathlib; pathlib.Path({str(tmp_path / 'connected')!r}).touch()"
    monkeypatch.setattr(socket.socket, "connect", lambda *_: exec(connect))
    return run


def marks(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir()} - {"modules", "run"}


def trained(folder: Path, *words: str) -> dict[str, Any]:
    assert attempt(["fit", *QUICK, *words], folder).status == 0
    for mark in marks(folder):
        (folder.parent / mark).unlink()
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


EVIL = {
    "estimator": ("model.init_args.estimator", {"class_path": "marking.Thing"}),
    "function": ("model.init_args.lr_scheduler", LAMBDA),
    "address": ("model.init_args.estimator", "http://127.0.0.1:9/x.yaml"),
    "data": ("data", {"class_path": "marking.Thing"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["validate", "test", "predict", "diagnose", "fit", "sample"])
def test_every_verb_refuses_it_in_one_line(folder: Path, verb: str) -> None:
    checkpoint = trained(folder)
    for key, value in EVIL.values():
        torch.save(having(checkpoint, f"configuration.{key}", value), folder / "evil.ckpt")
        words = [verb, "--ckpt_path=evil.ckpt"]
        assert complaints(Case("", words, ("evil.ckpt", key.split(".")[-1])), attempt(words, folder)) == []
        assert marks(folder) == set()
    del checkpoint["configuration"]
    for changed in ({"_class_path": "marking.Thing"}, {"estimator": {"class_path": "marking.Thing"}}):
        of_model = {"_class_path": "ils_lightning.modules.CategoricalFit", **checkpoint["hyper_parameters"], **changed}
        torch.save(checkpoint | {"hyper_parameters": of_model}, folder / "evil.ckpt")
        words = [verb, "--ckpt_path=evil.ckpt"]
        assert complaints(Case("", words, ("marking.Thing",)), attempt(words, folder)) == []
        assert marks(folder) == set()


@pytest.mark.slow
def test_options_that_write_elsewhere_are_left_out_with_a_note(folder: Path) -> None:
    checkpoint = trained(folder)
    options = {
        "default_root_dir": str(folder.parent / "elsewhere"),
        "callbacks": [
            {"class_path": "LambdaCallback", "init_args": {"setup": CALL}},
            {"class_path": "ModelCheckpoint", "init_args": {"dirpath": str(folder.parent / "elsewhere")}},
            {"class_path": "marking.Thing"},
        ],
        "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "ftp://x:y@127.0.0.1:9/loot"}},
        "max_steps": 8,
    }
    checkpoint["configuration"]["trainer"] |= options
    torch.save(checkpoint, folder / "evil.ckpt")
    found = attempt(["fit", "--ckpt_path=evil.ckpt"], folder)
    assert found.status == 0
    notes = {line.split()[1] for line in found.errors if "is not taken from a checkpoint" in line}
    assert notes == {"trainer.default_root_dir", "trainer.callbacks", "trainer.logger"}
    assert marks(folder) == set()
    assert not (folder / "called").exists()


@pytest.mark.slow
def test_a_part_of_ones_own_is_known_once_it_is_named(folder: Path) -> None:
    trained(folder, "--model.estimator=marking.Mine")
    words = ["test", "--ckpt_path=checkpoints/last.ckpt"]
    assert complaints(Case("", words, ("marking.Mine", "--config")), attempt(words, folder)) == []
    assert marks(folder) == set()
    assert attempt([*words, "--model.estimator=marking.Mine"], folder).status == 0
    checkpoint = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(checkpoint["configuration"]))
    assert attempt([*words, "--config=config.yaml"], folder).status == 0
    assert marks(folder) == {"imported"}


@pytest.mark.slow
def test_sample_knows_a_part_of_ones_own_by_its_name(folder: Path) -> None:
    few = ["--trainer.max_steps=2", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"]
    words = ["--config=vae_digits", *few, "--trainer.logger=false", "--model.estimator=marking.Mine"]
    assert attempt(["fit", *words], folder).status == 0
    sample = ["sample", "--ckpt_path=checkpoints/last.ckpt"]
    assert complaints(Case("", sample, ("marking.Mine", "--own")), attempt(sample, folder)) == []
    assert attempt([*sample, "--own=marking.Mine"], folder).status == 0
    assert (folder / "samples.png").stat().st_size > 1000
    unknown = [*sample, "--own=marking.Min"]
    assert complaints(Case("", unknown, ("no class 'marking.Min'",)), attempt(unknown, folder)) == []


@pytest.mark.slow
def test_a_tokeniser_is_a_checkpoint_too(folder: Path) -> None:
    content = {"state_dict": {}, "hyper_parameters": {"estimator": {"class_path": "marking.Thing"}}}
    torch.save(content, folder / "evil.ckpt")
    words = ["fit", "--config=code_prior_digits", "--model.tokenizer=evil.ckpt"]
    assert complaints(Case("", words, ("marking.Thing",)), attempt(words, folder)) == []
    assert marks(folder) == set()
