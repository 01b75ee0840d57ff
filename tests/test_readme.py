"""The README keeps its word: its Python runs, its table is the generated one, its commands name files that exist."""

import csv
import re
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from statistics import fmean
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


STANDING = {  # first cells of a row of "Where ILS stands": results, measure, factor, decimals, what follows the number
    "digits VAE, test -ELBO, L8K4": ("vae_digits", "L8K4", "test/loss", 1, 2, ""),
    "the same, L4K24": ("vae_digits", "L4K24", "test/loss", 1, 2, ""),
    "the same, L16K12": ("vae_digits", "L16K12", "test/loss", 1, 2, ""),
    "MNIST VAE, test -ELBO, L4K8": ("vae_mnist", "L4K8", "test/loss", 1, 1, ""),
    "the same, L24K4": ("vae_mnist", "L24K4", "test/loss", 1, 1, ""),
    "the same, L12K16": ("vae_mnist", "L12K16", "test/loss", 1, 1, ""),
    "ListOps, wrong answers on the published test file": ("listops", "", "test/error", 100, 1, " %"),
}
COLUMNS = ("ILS, step_size 0.1", "ILSCV", "ILSNewton", "ILSJoint", "ReinMax", "StraightThrough")


@pytest.mark.parametrize("row", STANDING)
def test_where_ils_stands_is_what_the_results_say(row):
    name, setting, measure, factor, decimals, unit = STANDING[row]
    seeds = defaultdict(list)
    with (Path(__file__).parent.parent / f"docs/results/{name}.csv").open() as file:
        for result in csv.DictReader(file):
            if result["setting"] == setting:
                seeds[result["run"]].append(factor * float(result[measure]))
    found = {run: fmean(values) for run, values in seeds.items()}
    (line,) = re.findall(rf"^\| {re.escape(row)} \|(.*)\|$", README, flags=re.MULTILINE)
    cells = [cell.strip().replace("*", "") for cell in line.split("|")]
    means = [f"{found[run]:.{decimals}f}{unit}" if run in found else "" for run in COLUMNS]
    others = {value: run for run, value in found.items() if run not in COLUMNS and not run.startswith("ILS")}
    best = f"{others[min(others)]} {min(others):.{decimals}f}{unit}"
    assert cells == [*means, best.replace("StraightThroughGumbelSoftmax(0.5)", "ST-Gumbel(.5)")]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"compare (compare/\w+)", README))))
def test_commands_name_files_that_exist(name):
    assert find(name).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"--config (diagnose/\w+)", README))))
def test_packaged_reports_exist(name):
    assert (Path(__file__).parent.parent / "configs" / f"{name}.yaml").exists()


@pytest.mark.parametrize("picture", re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README))
def test_pictures_are_there(picture):
    assert (Path(__file__).parent.parent / picture).stat().st_size > 10_000
