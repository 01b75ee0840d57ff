"""Strict mode: nothing but the project's own parts is imported, let alone called."""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from hostile import Attempt, attempt, complaints, Case

import ils_lightning.cli.diagnosing
import ils_lightning.cli.training
import ils_lightning.compare
import ils_lightning.sample  # noqa: F401 (imported once, for all processes that are forked)
from ils_lightning import strict

BASE = yaml.safe_load((Path(__file__).parent.parent / "configs/toy1.yaml").read_text())
QUICK = ["--trainer.max_steps=2", "--model.chunk=1", "--trainer.accelerator=cpu"]
ACCEPTS = "refused in strict mode"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module that leaves a mark when it is imported, and one more when its class is made."""
    run = tmp_path / "run"
    run.mkdir()
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "marking.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'imported')!r}).touch()\n"
        "from lightning.pytorch.callbacks import Callback\n"
        f"class Thing(Callback):\n    def __init__(self): Path({str(tmp_path / 'called')!r}).touch()\n"
    )
    monkeypatch.syspath_prepend(str(modules))
    return run


def marks(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir()} & {"imported", "called"}
