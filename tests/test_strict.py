"""Strict mode: nothing but the project's own parts is imported, let alone called."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hostile import Attempt, Case, attempt, complaints

import ils_lightning.cli.diagnosing
import ils_lightning.cli.training
import ils_lightning.compare
import ils_lightning.sample  # noqa: F401 (imported once, for all processes that are forked)
from ils_lightning import strict
from ils_lightning.cli import main
from ils_lightning.compare.files import assign

TOY = yaml.safe_load((Path(__file__).parent.parent / "configs/toy1.yaml").read_text())
QUICK = ["--trainer.max_steps=4", "--model.chunk=2", "--trainer.val_check_interval=1", "--trainer.accelerator=cpu"]
THING = {"class_path": "marking.Thing"}
NAMES = ["os.system", "subprocess.Popen", "builtins.eval", "torch.load", "pathlib.Path"]
PLACES = ["model.init_args.estimator", "model.init_args.optimizer", "model.init_args.loss", "data", "trainer.logger"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder beside a module that leaves marks when it is imported, and when its class is made."""
    modules, run = tmp_path / "modules", tmp_path / "run"
    modules.mkdir(), run.mkdir()
    (modules / "marking.py").write_text(
        "from pathlib import Path\nfrom lightning.pytorch.callbacks import Callback\n"
        f"Path({str(tmp_path / 'imported')!r}).touch()\n\n"
        f"class Thing(Callback):\n    def __init__(self):\n        Path({str(tmp_path / 'called')!r}).touch()\n"
    )
    monkeypatch.syspath_prepend(str(modules))
    return run


def marks(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir()} & {"imported", "called"}


def with_part(key: str, value: Any) -> dict:
    config = deepcopy(TOY)
    assign(config, key, value)
    return config


def refused(folder: Path, words: list[str], *named: str) -> Attempt:
    found = attempt(words, folder)
    assert complaints(Case("", words, named), found) == [], found
    assert marks(folder) == set()
    return found


def fit_with(folder: Path, key: str, value: Any) -> list[str]:
    (folder / "run.yaml").write_text(yaml.safe_dump(with_part(key, value)))
    return ["fit", "--config=run.yaml", *QUICK]


@pytest.mark.parametrize(
    ("name", "key"), [*zip(NAMES, PLACES, strict=True), *(("marking.Thing", key) for key in PLACES)]
)
def test_a_class_outside_the_package_is_refused_unseen(folder: Path, key: str, name: str) -> None:
    refused(folder, ["--strict", *fit_with(folder, key, {"class_path": name})], repr(name), "strict mode")


def test_a_detour_through_the_package_is_refused(folder: Path) -> None:
    words = fit_with(folder, "model.init_args.optimizer", {"class_path": "torch.optim.optimizer.torch.load"})
    refused(folder, [*words, "--strict"], "'torch.serialization.load' is refused")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.callbacks", [THING]),
        ("trainer.callbacks", [{"class_path": "LearningRateMonitor"}, THING]),
        ("trainer.callbacks", {"class_path": "LambdaCallback", "init_args": {"setup": "marking.Thing"}}),
        ("trainer.plugins", [THING]),
        ("trainer.strategy", THING),
        ("model.init_args.estimator", {"class_path": "Average", "init_args": {"estimator": THING, "samples": 2}}),
        ("model.init_args.lr_scheduler", THING),
    ],
    ids=["list", "second", "function", "plugin", "strategy", "nested", "scheduler"],
)
def test_a_class_deep_inside_is_refused_unseen(folder: Path, key: str, value: Any) -> None:
    refused(folder, [*fit_with(folder, key, value), "--strict"], "'marking.Thing'", "strict mode")


def test_without_strict_the_same_class_is_used(folder: Path) -> None:
    found = attempt(fit_with(folder, "trainer.callbacks", [THING]), folder)
    assert found.status == 0
    assert marks(folder) == {"imported", "called"}


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "builtins.eval"])
def test_what_runs_commands_is_refused_without_strict(folder: Path, name: str) -> None:
    refused(folder, fit_with(folder, "model.init_args.optimizer", {"class_path": name}), repr(name), "may not name")


@pytest.mark.parametrize("verb", ["validate", "test", "predict", "diagnose", "fit", "sample"])
def test_a_checkpoint_obeys_too(folder: Path, verb: str) -> None:
    assert attempt(["fit", *QUICK, "--trainer.logger=false"], folder).status == 0
    path = folder / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    for key in ("configuration", "hyper_parameters"):
        changed = dict(checkpoint)
        if key == "configuration":
            changed[key] = with_part("model", {"class_path": "marking.Thing", "init_args": {}})
        else:
            del changed["configuration"]
            changed[key] = checkpoint[key] | {"_class_path": "marking.Thing"}
        torch.save(changed, path)
        refused(folder, [verb, "--ckpt_path=checkpoints/last.ckpt", "--strict"], "'marking.Thing'", "strict mode")


def test_pickles_are_refused(folder: Path) -> None:
    assert attempt(["fit", *QUICK, "--trainer.logger=false"], folder).status == 0
    words = ["test", "--ckpt_path=checkpoints/last.ckpt", "--weights_only=false", "--strict"]
    refused(folder, words, "--weights_only false is refused in strict mode")


GRID = {
    "title": "two",
    "base": with_part("trainer.max_steps", 4),
    "change": {"model.init_args.chunk": 2, "trainer.val_check_interval": 1},
    "seeds": [0, 1],
    "runs": [{"name": "ReinMax", "change": {"model.init_args.estimator": {"class_path": "ReinMax"}}}],
}


@pytest.mark.parametrize("key", [*PLACES[:-1], "trainer.callbacks"])
def test_a_comparison_obeys_too(folder: Path, key: str) -> None:
    run = {"name": "thing", "change": {key: THING}}
    (folder / "grid.yaml").write_text(yaml.safe_dump({**GRID, "runs": [*GRID["runs"], run]}))
    refused(folder, ["compare", "grid.yaml", "--strict"], "'marking.Thing'", "strict mode")


@pytest.mark.slow
def test_processes_that_a_comparison_starts_are_strict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(strict.VARIABLE, "1")
    (folder / "grid.yaml").write_text(yaml.safe_dump(GRID))
    found = attempt(["compare", "grid.yaml", "--workers=2", "--folder=out"], folder, _with_names_told)
    assert found.status == 0
    assert "True True" in found.output


def _with_names_told(words: list[str]) -> None:
    """Runs a command, and prints whether processes that it starts are strict."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(*pool.starmap(strict.is_on, [(), ()]))
    main(words)


def test_ordinary_runs_are_strict_already(folder: Path) -> None:
    words = ["--strict", "fit", *QUICK, "--model.lr_scheduler=CosineAnnealingLR", "--model.lr_scheduler.T_max=3"]
    words += ["--trainer.callbacks+=LearningRateMonitor", "--trainer.strategy=ddp_fork", "--trainer.devices=2"]
    assert attempt(words, folder).status == 0
    assert (folder / "lightning_logs/version_0/checkpoints/last.ckpt").is_file()


CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_packaged_configurations_are_strict_already(folder: Path, path: Path) -> None:
    found = attempt(["fit", f"--config={path}", "--print_config", "--strict"], folder)
    assert (found.status, found.errors) == (0, [])


def test_the_environment_switches_it_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = fit_with(folder, "model.init_args.optimizer", THING)
    monkeypatch.setenv(strict.VARIABLE, "1")
    refused(folder, words, "strict mode")
    monkeypatch.setenv(strict.VARIABLE, "yes")
    refused(folder, words, "ILS_LIGHTNING_STRICT must be 0 or 1; given 'yes'")
