"""The README keeps its word: its Python runs, its table is the generated one, its commands name files that exist."""

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from examples import Example
from simulate import scores

from ils_lightning.cli import main
from ils_lightning.estimators import table
from ils_lightning.packaged import find

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def run(marker: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Imports the one example that contains `marker`."""
    (code,) = [block for block in PYTHON if marker in block]
    name = f"readme_example_{abs(hash(marker))}"
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    return import_module(name)


def test_own_model_trains(tmp_path, monkeypatch):
    losses = run("class Experts", tmp_path, monkeypatch).losses
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])


def test_own_estimator_keeps_the_contract_and_trains_by_name(tmp_path, monkeypatch):
    example = Example("Heun", run("(Pullback)", tmp_path, monkeypatch).Heun)
    assert scores(example, "quadratic")["gradient"] < 1 < scores(example, "mlp")["gradient"]
    options = [f"--trainer.default_root_dir={tmp_path}", "--trainer.max_steps=2", "--trainer.enable_progress_bar=false"]
    main(["fit", "--model.estimator=Heun", *options])
    assert (tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt").exists()


def test_report_on_a_loss_of_ones_own(tmp_path, monkeypatch):
    rows = {row.name: row for row in run("gradient_report(", tmp_path, monkeypatch).report.rows}
    assert set(rows) == {"StraightThrough", "ReinMax", "LeaveOneOut"}
    low = {name: row.relative_bias_low for name, row in rows.items()}
    assert max(low["ReinMax"], low["LeaveOneOut"]) < 0.05 < low["StraightThrough"]  # the loss is quadratic in z


def test_the_faces_of_one_line_run(tmp_path, monkeypatch):
    module = run("gumbel_softmax(logits", tmp_path, monkeypatch)
    assert module.logits.grad is not None
    assert module.logits.grad.abs().sum() > 0


def test_table_of_estimators_is_the_generated_one():
    assert table.markdown().strip() in README


@pytest.mark.parametrize("name", sorted(set(re.findall(r"compare (compare/\w+)", README))))
def test_commands_name_files_that_exist(name):
    assert find(name).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"--config (diagnose/\w+)", README))))
def test_packaged_reports_exist(name):
    assert (Path(__file__).parent.parent / "configs" / f"{name}.yaml").exists()


@pytest.mark.parametrize("picture", re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README))
def test_pictures_are_there(picture):
    assert (Path(__file__).parent.parent / picture).stat().st_size > 10_000
