"""The README keeps its word: what its examples find, its list of estimators, its length, and the tables of results."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from examples import Example
from pages import ROOT, Page
from simulate import scores

from ils_lightning.cli import main
from ils_lightning.estimators import table

README = Page(ROOT / "README.md")
MODEL = Page(ROOT / "docs" / "your_model.md")
WHICH = Page(ROOT / "docs" / "which_estimator.md")
ADD = Page(ROOT / "docs" / "add_an_estimator.md")


def run(page: Page, marker: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Imports the one example of a page that contains `marker`."""
    (code,) = [block for block in page.blocks("python") if marker in block]
    name = f"example_{abs(hash((page, marker)))}"
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    return import_module(name)


@pytest.mark.parametrize(("page", "marker"), [(README, "estimator(logits, f)"), (MODEL, "class Experts")])
def test_own_model_trains(page, marker, tmp_path, monkeypatch):
    losses = run(page, marker, tmp_path, monkeypatch).losses
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])


@pytest.mark.slow
def test_own_estimator_keeps_the_contract_and_trains_by_name(tmp_path, monkeypatch):
    example = Example("Heun", run(README, "(Pullback)", tmp_path, monkeypatch).Heun)
    assert scores(example, "quadratic")["gradient"] < 1 < scores(example, "mlp")["gradient"]
    options = [f"--trainer.default_root_dir={tmp_path}", "--trainer.max_steps=2", "--trainer.enable_progress_bar=false"]
    main(["fit", "--model.estimator=Heun", *options])
    assert (tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt").exists()


def test_own_estimator_is_the_same_on_its_page():
    (here,) = [block for block in README.blocks("python") if "(Pullback)" in block]
    (there,) = [block for block in ADD.blocks("python") if "(Pullback)" in block]
    assert [line.split("  #")[0] for line in here.splitlines()] == there.splitlines()


@pytest.mark.parametrize("page", [README, WHICH], ids=lambda page: page.name)
def test_report_on_a_loss_of_ones_own(page, tmp_path, monkeypatch):
    rows = {row.name: row for row in run(page, "report = gradient_report(", tmp_path, monkeypatch).report.rows}
    assert set(rows) == {"StraightThrough", "ReinMax", "LeaveOneOut"}
    low = {name: row.relative_bias_low for name, row in rows.items()}
    assert max(low["ReinMax"], low["LeaveOneOut"]) < 0.05 < low["StraightThrough"]  # the loss is quadratic in z


@pytest.mark.parametrize("page", [README, MODEL], ids=lambda page: page.name)
def test_the_faces_of_one_line_run(page, tmp_path, monkeypatch):
    module = run(page, "OneHotCategorical(logits", tmp_path, monkeypatch)
    assert module.logits.grad is not None
    assert module.logits.grad.abs().sum() > 0


def test_names_of_estimators_are_the_generated_ones():
    assert table.names().strip() in README.text


def test_a_reader_finishes_it():
    assert len(README.text.splitlines()) <= 200
    assert len([line for line in README.blocks("python")[0].splitlines() if line.strip()]) <= 22
