"""The verb `diagnose`: any LightningModule with a problem, with or without a checkpoint; table, files, advice."""

import csv
import json
import math
import os
from pathlib import Path

import pytest
import torch
import yaml
from lightning import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset

from ils_lightning.cli import main
from ils_lightning.diagnose import GradientReport, tables
from ils_lightning.modules.base import Problem

LR = "--model.optimizer.lr=0.01"
CONFIGS = sorted((Path(__file__).parent.parent / "configs" / "diagnose").glob("*.yaml"))


class OwnRouter(LightningModule):
    """A plain LightningModule."""

    def __init__(self, slope: bool = True) -> None:
        super().__init__()
        self.router, self.slope = torch.nn.Linear(4, 3), slope

    def problem(self, batch):
        (x,) = batch
        values = x[:, :3] if self.slope else x[:, :3].round()
        return Problem(
            self.router(x).unsqueeze(-2),
            lambda z: ((z if self.slope else z.detach())[..., 0, :] * values).sum(-1).square(),
        )


class Coupled(LightningModule):
    """Rows that are judged by each other: by the negatives of a batch, or by batch normalisation in training mode."""

    def __init__(self, always: bool = True) -> None:
        super().__init__()
        self.router, self.norm, self.always = torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), always

    def problem(self, batch):
        def f(z):
            h = self.norm(z.flatten(0, -2)).view(z.shape)[..., 0, :].square()
            return (h.softmax(dim=1) if self.always else h)[..., 0]

        return Problem(self.router(batch[0]).unsqueeze(-2), f)


class Nothing(LightningModule):
    """A LightningModule without a problem."""


class OwnRows(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.randn(8, 4)), batch_size=8)


def diagnose(folder: Path, *words: str) -> dict:
    main(["diagnose", *words, "--draws=32", "--settle=2", f"--folder={folder}"])
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_it_writes_table_figure_and_page_and_ends_with_advice(tmp_path, capsys):
    words = ["--config=vae_digits", "--model.latents=2", "--rows=4"]
    report = diagnose(tmp_path, *words, "--estimators=ReinMax", "--estimators", "DisArm")
    shown = capsys.readouterr().out
    assert "\nUse " in shown
    assert max(len(line) for line in shown.splitlines() if not line.startswith("table, figure")) <= 80
    assert "not applicable: DisArm: defined for 2 categories only" in shown
    assert [row["name"] for row in report["rows"]][-1] == "DisArm"
    assert {row["name"] for row in report["rows"]} == {"ILSNewton (the model's)", "ReinMax", "DisArm"}
    with (tmp_path / "report.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert float(lines[0]["relative_bias"]) == report["rows"][0]["relative_bias"]
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert "<svg" in (tmp_path / "figure.svg").read_text()
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert "Use " in page
    for outside in ("<script", "<link", "src=", "@import", "url(http"):
        assert outside not in page


@pytest.mark.slow
def test_a_report_reads_back(tmp_path):
    diagnose(tmp_path, "--config=diagnose/bilinear", "--estimators=[ReinMax,LeaveOneOut]")
    text = (tmp_path / "report.json").read_text()
    report = tables.from_json(text)
    assert tables.to_json(report) == text
    assert all(math.isfinite(row.relative_bias) for row in report.applicable)


@pytest.mark.slow
def test_it_measures_at_the_parameters_of_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["fit", "--config=vae_digits", "--model.latents=2", "--trainer.max_epochs=3", LR])
    path = next(tmp_path.rglob("last.ckpt"))
    before = diagnose(tmp_path / "a", "--config=vae_digits", "--model.latents=2", "--estimators=[ReinMax]")
    after = diagnose(tmp_path / "b", f"--ckpt_path={path}", "--estimators=[ReinMax]")
    assert after["latents"] == 2
    assert after["loss"] < before["loss"] - 1


@pytest.mark.slow
def test_a_plain_lightning_module_will_do(tmp_path):
    words = [f"--model={__name__}.OwnRouter", f"--data={__name__}.OwnRows"]
    report = diagnose(tmp_path, *words, "--estimators=[ReinMax,Exact]")
    assert report["rows"][0]["name"] == "Exact"
    assert report["rows"][0]["relative_bias"] == 0
    flat = diagnose(tmp_path, *words, "--model.slope=false", "--estimators=[ReinMax,LeaveOneOut]")
    assert "no gradient in z" in flat["rows"][1]["not_applicable"]


@pytest.mark.slow
def test_every_report_without_a_folder_named_has_one_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["diagnose", f"--model={__name__}.OwnRouter", f"--data={__name__}.OwnRows", "--draws=32"]
    above = Path("lightning_logs/diagnose/OwnRouter_on_OwnRows")
    for number, name in enumerate(("ReinMax", "LeaveOneOut")):
        main([*words, f"--estimators=[{name}]"])
        assert f"are in {above / f'version_{number}'}\n" in capsys.readouterr().out
    first, last = (tables.read(above / f"version_{number}") for number in (0, 1))
    assert [first.rows[0].name, last.rows[0].name] == ["ReinMax", "LeaveOneOut"]
    assert tables.read(above).rows[0].name == "LeaveOneOut"


def test_of_several_reports_in_a_folder_the_last_one_is_read(tmp_path):
    for age, place in enumerate((tmp_path / "version_10", tmp_path, tmp_path / "version_9")):
        place.mkdir(exist_ok=True)
        report = GradientReport([], place.name, "exact", 1, 2, 3, 0.0, 32, 100, 0)
        (place / "report.json").write_text(tables.to_json(report))
        os.utime(place / "report.json", (1e9 - age, 1e9 - age))
    assert tables.read(tmp_path).title == "version_10"
    os.utime(tmp_path / "report.json")
    assert tables.read(tmp_path).title == tmp_path.name


@pytest.mark.parametrize("folder", [[], ["--folder=a/b"]], ids=["of its own", "named"])
@pytest.mark.parametrize("words", [["--model={}.Nothing"], ["--model={}.OwnRouter", "--draws=3"]], ids=str)
def test_a_refused_report_leaves_no_folder(words, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["diagnose", *(word.format(__name__) for word in words), f"--data={__name__}.OwnRows", *folder])
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", ["1", "3"])
def test_rows_judged_by_each_other_end_in_one_line_however_few_are_measured(rows, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["diagnose", f"--model={__name__}.Coupled", f"--data={__name__}.OwnRows", f"--rows={rows}"])
    assert "judges each row by itself" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_rows_judged_by_each_other_in_training_alone_get_a_note(tmp_path, capsys):
    words = [f"--data={__name__}.OwnRows", "--estimators=[LeaveOneOut]"]
    report = diagnose(tmp_path, f"--model={__name__}.Coupled", "--model.always=false", *words)
    shown = " ".join(capsys.readouterr().out.split())
    assert "note: in training mode a row's loss depends on the draws of other rows" in shown
    assert report["remark"].startswith("note: in training mode")
    assert "note: in training mode" in (tmp_path / "report.html").read_text()
    assert diagnose(tmp_path, f"--model={__name__}.OwnRouter", *words)["remark"] == ""


@pytest.mark.slow
def test_mistakes_end_in_one_line(tmp_path, capsys):
    for words, message in (
        ([f"--model={__name__}.Nothing", f"--data={__name__}.OwnRows"], "must have a method problem(batch)"),
        (["--config=diagnose/bilinear", "--estimators=[RienMax]"], "RienMax"),
        (["--config=diagnose/bilinear", "--draws=3"], "draws must be at least 32"),
        (["--ckpt_path=nowhere.ckpt"], "there is no file 'nowhere.ckpt'"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["diagnose", *words, f"--folder={tmp_path}"])
        assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_packaged_reports_run(path, tmp_path):
    asked = yaml.safe_load(path.read_text())
    report = diagnose(tmp_path, f"--config=diagnose/{path.stem}", "--rows=2", "--limit=65536")
    assert report["title"] == asked["title"]
    assert len(report["rows"]) == len(asked["estimators"])
    assert not any(row["not_applicable"] for row in report["rows"])
