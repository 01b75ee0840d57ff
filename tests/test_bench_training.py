"""The parts of `bench` that train, tiny, through the command line: every output is there and well formed."""

import json

import pytest
import torch

import ils_lightning.estimators as package
from ils_lightning.bench import compiled, epoch, steps
from ils_lightning.cli import main
from ils_lightning.estimators import ReinMax
from ils_lightning.estimators.compiling import ASKS_DERIVATIVES
from ils_lightning.type_hints import is_abstract


def bench(folder, part):
    main(["bench", "--parts", part, "--repeats", "1", "--folder", str(folder)])
    found = json.loads((folder / "bench.json").read_text())
    assert set(found["machine"]) >= {"torch", "python", "processor", "threads", "repeats"}
    text = (folder / "bench.md").read_text()
    assert all(section["title"] in text for section in found["sections"].values())
    return {name: section["rows"] for name, section in found["sections"].items()}


@pytest.mark.slow
def test_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "STEPS", 100)
    monkeypatch.setattr(steps, "FEW", 5)
    rows = bench(tmp_path, "steps")["steps"]
    assert [row["way"] for row in rows] == [
        steps.RAW,
        "bare module in a bare Trainer",
        "chunks of 100",
        "chunks of 100, manual_backward",
        "one step at a time",
        "Trainer's defaults",
    ]
    assert rows[0]["to raw"] == 1
    assert all(row["microseconds a step"] > 0 and row["to raw"] > 0 and row["cpu, to raw"] > 0 for row in rows)


@pytest.mark.long
def test_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(epoch, "BATCHES", 2)
    monkeypatch.setattr(epoch, "_data", lambda: (epoch.RandomImages(), "random"))
    rows = bench(tmp_path, "epoch")["epoch"]
    assert [row["way"] for row in rows] == ["plain PyTorch loop", "bare module in a bare Trainer", "Trainer"] * 2
    assert all(row["images"] == "random" and row["seconds an epoch"] > 0 and row["to plain"] > 0 for row in rows)


def test_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled.package, "__all__", ["ReinMax", "Rebar", "Estimator", "Average"])
    monkeypatch.setattr(compiled, "traced", lambda estimator, device: "whole")
    monkeypatch.setattr(compiled, "compile_networks", lambda model, backend: None)
    found = bench(tmp_path, "compiled")
    assert found["compiled"] == [
        {"estimator": "Average", "compiles": "whole", "CompiledNetworks": "yes", "in pieces, for": ""},
        {"estimator": "Rebar", "compiles": "whole", "CompiledNetworks": "no", "in pieces, for": ASKS_DERIVATIVES},
        {"estimator": "ReinMax", "compiles": "whole", "CompiledNetworks": "yes", "in pieces, for": ""},
    ]
    assert [row["latents x categories"] for row in found["compiled networks"]] == ["4 x 8", "24 x 4"]
    assert all(row["compiled / plain"] > 0 for row in found["compiled networks"])


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
def test_tracing_tells_what_compiles():
    assert compiled.traced(ReinMax(), torch.device("cpu")) == "whole"


def test_every_estimator_can_be_made_to_be_traced():
    made = {name: compiled.instance(name) for name in package.__all__}
    classes = {
        n for n in package.__all__ if isinstance(getattr(package, n), type) and not is_abstract(getattr(package, n))
    }
    assert {name for name, one in made.items() if one is not None} == {
        name for name in classes if issubclass(getattr(package, name), package.Estimator)
    }
