"""Names and texts that a comparison file may give: each is shown as it is, or refused before anything is trained."""

import csv
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_compare import write

from ils_lightning import plots
from ils_lightning.callbacks import report
from ils_lightning.cli import main
from ils_lightning.compare import compare
from ils_lightning.compare.grid.names import folder_names, require_showable
from ils_lightning.compare.report import screen, table, wide
from ils_lightning.report_page import figure as on_a_page

ODD = ["[hard]", "..", "a b", "a/b", "A b", "$x^{$", "5$ and 6$", "=SUM(A1)", "<b>|x", "\N{ROCKET}", "a" * 40]
CONTENT: dict[str, Any] = {
    "title": "from $x^{$ to [bold]",
    "caption": "it costs $5 and $x^{$ " * 9,
    "base": "toy1",
    "layout": "lines",
    "change": {"trainer.max_steps": 4, "model.init_args.chunk": 2, "model.init_args.record_every": 1},
    "runs": [{"name": name, "change": {"model.init_args.estimator": "GumbelSoftmax"}} for name in ODD],
}
CONTROLS = ["turned\u202e", "\x1b[2J", "a\x00b", "two\nlines", "\x9b", " ", "", "a\u2028b"]


@pytest.mark.long
@pytest.mark.parametrize("layout", ["panels", "lines", "settings", "budgets"])
def test_odd_names_reach_every_report_as_they_are(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = compare(write(tmp_path, {**CONTENT, "layout": layout}), tmp_path / "out", workers=1)
    assert "[hard]" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()].count("events") == 0
    found = sorted(path for path in (out / "tensorboard").iterdir() if path.is_dir())  # beside the tables' own events
    runs = [_run_of(folder) for folder in found]
    assert sorted(runs) == sorted(ODD)
    assert (out / "report.html").exists()
    assert (out / "figure.svg").exists()
    named = [line["run"] for line in csv.DictReader((out / "table.csv").read_text().splitlines())]
    assert named == ["'=SUM(A1)" if name == "=SUM(A1)" else name for name in ODD]


def _run_of(folder: Path) -> str:
    """The run whose name the only events of a folder hold."""
    (file,) = folder.glob("events.*")
    events = EventAccumulator(str(file))
    events.Reload()
    plugin = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    (name,) = [name for name in sorted(ODD, key=len, reverse=True) if name.encode() in plugin][:1]
    return name


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("where", ["run", "setting", "title", "caption"])
def test_names_that_control_a_terminal_are_refused_before_anything_is_trained(
    name: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if where in ("title", "caption") and name in ("two\nlines", " ", ""):
        require_showable(where, name, lines=True)
        return
    run = {**CONTENT["runs"][0], "name": name if where == "run" else "one"}
    settings = {"levels": [{"name": name, "change": {}}]} if where == "setting" else None
    texts = {where: name} if where in ("title", "caption") else {}
    file = write(tmp_path, {**CONTENT, "runs": [run], "settings": settings, **texts})
    with pytest.raises(SystemExit, match="2"):
        main(["compare", file, f"--folder={tmp_path / 'out'}"])
    (line,) = capsys.readouterr().err.splitlines()
    assert where in line
    assert "must be text that can be shown" in line
    assert line.isprintable()
    assert not (tmp_path / "out").exists()


def test_folders_are_told_apart_and_lead_nowhere_else() -> None:
    names = folder_names([*ODD, "a" * 300, "a b", "CON:", "é" * 90, "", "."])
    assert len({name.casefold() for name in names}) == len(names)
    assert all(len(name.encode()) <= 120 and "/" not in name and name.strip(".") for name in names)
    assert folder_names(["ReinMax L8K4", "ILS, algorithm (0.1)"]) == ["ReinMax_L8K4", "ILS,_algorithm_(0.1)"]


@pytest.mark.parametrize("text", ["$x^{$", r"$\nothing$", "$ and $ {", "a$x^{$\n$y$", "$$", "5$"])
def test_texts_that_are_no_formulas_are_drawn(text: str, tmp_path: Path) -> None:
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.plot([1, 2], label=text)
    axes.set(title=text, xlabel=text)
    axes.set_yticks([1, 2], [text, text])
    axes.legend()
    figure.suptitle(text)
    assert "<svg" in on_a_page(figure, text)
    assert all(path.stat().st_size for path in plots.save(figure, tmp_path / "figure"))


def test_a_formula_stays_one(tmp_path: Path) -> None:
    figure = Figure()
    figure.suptitle("$x^2$")
    plots.save(figure, tmp_path / "figure")
    assert figure.get_suptitle() == "$x^2$"


def test_brackets_are_not_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [table.Row("ILS[hard]", "[red]", tracked="loss [nats]", seeds=1, plateau=1.0, failed="[bold] why")]
    screen.show(rows, Console(width=200))
    report.show("result", {"logs [x]": "runs[hard]"})
    shown = capsys.readouterr().out
    for text in ("ILS[hard] [red]", "loss [nats]", "[bold] why", "logs [x]", "runs[hard]"):
        assert text in shown


def test_markdown_holds_no_tags() -> None:
    rows = [table.Row("<img>|", "<b>", seeds=1, plateau=1.0)]
    for text in (table.markdown(rows), wide.markdown(rows)):
        assert "&lt;img>\\|" in text
        assert "<" not in text
