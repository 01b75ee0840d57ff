"""The verb `bench`: tables, JSON, Markdown and figures of tiny runs are written and well formed. No time is judged."""

import io
import json
import math
import re
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from rich.console import Console

from ils_lightning.bench import faces, family, growth, interface, samplers, timing
from ils_lightning.bench.command import PARTS, _show
from ils_lightning.bench.peers import COPY, FLOOR, REFERENCE
from ils_lightning.bench.section import Section
from ils_lightning.cli import main

TINY = {
    samplers: {"SIZES": ((4, 8), (3, 300)), "STEADY": 1e-4},
    growth: {
        "CATEGORIES": (8, 32),
        "BATCHES": (4, 16),
        "SAMPLES": (1, 3),
        "TRIALS": (4, 8),
        "NUMBERS": 64,
        "SAMPLED": (4, 16),
        "STEADY": 1e-4,
    },
    interface: {"CODES": ((2, 3),)},
    family: {"ROWS": 8, "BEFORE": 2, "CODES": ((2, 3),), "STEADY": 1e-4},
    faces: {
        "LATENTS": (4, 2, 3),
        "DRAWS": ((4, 8), (3, 300)),
        "VECTORS": (32, 8, 16),
        "TOKENS": (16, 4, 8),
        "PROMPTS": (2, 3, 4, 5),
        "STEADY": 1e-4,
    },
}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, values in TINY.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


def measured(folder: Path, *words: str) -> dict:
    """Runs the verb; returns what it wrote as plain data."""
    threads = torch.get_num_threads()
    main(["bench", "--repeats", "2", "--folder", str(folder), *words])
    assert torch.get_num_threads() == threads
    return json.loads((folder / "bench.json").read_text(encoding="utf-8"))


def check_figure(stem: Path) -> None:
    picture = imread(stem.with_suffix(".png"))
    assert min(picture.shape[:2]) > 300
    assert picture[..., :3].std() > 0.01
    assert stem.with_suffix(".svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


def check_markdown(text: str, found: dict) -> None:
    """Every section is a table of which all lines have as many cells."""
    for section in found["sections"].values():
        table = text.split(section["title"] + "\n\n")[1].split("\n\n")[0].strip().splitlines()
        assert len({line.count("|") for line in table}) == 1
        assert len(table) > 2
        assert all(cell.strip() for line in table for cell in line.strip("|").split("|"))


@pytest.mark.slow
def test_samplers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = measured(tmp_path)
    printed = capsys.readouterr().out
    assert {"torch", "processor", "threads", "repeats"} <= set(found["machine"])
    rows = found["sections"]["samplers, tensors"]["rows"]
    assert {row["size"] for row in rows} == {"4 x 8", "3 x 300"}
    methods = {row["method"] for row in rows}
    assert {"ILS", "ILS, small gradients", "ReinMax", "StraightThrough", "ILSCV", REFERENCE, FLOOR, COPY} <= methods
    assert len(rows) == 2 * len(methods)
    for row in rows:
        assert all(
            math.isfinite(row[key]) and row[key] > 0 for key in ("microseconds", "ratio", "cold ratio", "to softmax")
        )
        assert row["tensors"] >= 1
        assert {row["ratio"], row["cold ratio"]} == {1} or row["method"] != REFERENCE
    assert all(section["title"] in " ".join(printed.split()) for section in found["sections"].values())
    check_markdown((tmp_path / "bench.md").read_text(encoding="utf-8"), found)
    check_figure(tmp_path / "samplers")


@pytest.mark.slow
def test_growth(tmp_path: Path):
    found = measured(tmp_path, "--parts", "growth")
    sections = found["sections"]
    assert list(sections) == [f"growth, {name}" for name in ("categories", "batch", "samples", "trials", "one of many")]
    for name, sizes in (("categories", {8, 32}), ("batch", {4, 16}), ("samples", {1, 3}), ("trials", {4, 8})):
        rows = sections[f"growth, {name}"]["rows"]
        assert {row["size"] for row in rows} == sizes
        assert {FLOOR, COPY} < {row["method"] for row in rows}
        assert all(row["microseconds"] > 0 for row in rows)
    one = {(row["method"], row["size"]): row["share"] for row in sections["growth, one of many"]["rows"]}
    assert one[REFERENCE, 1] == 1
    check_figure(tmp_path / "growth")
    assert not (tmp_path / "samplers.png").exists()


@pytest.mark.slow
def test_interface(tmp_path: Path):
    found = measured(tmp_path, "--parts", "interface")
    rows = found["sections"]["interface"]["rows"]
    assert {row["estimator"] for row in rows} >= {"ILS", "ReinMax", "StraightThrough"}
    assert all(row["milliseconds"] > 0 and row["to the bare sampler"] > 0 for row in rows)
    check_markdown((tmp_path / "bench.md").read_text(encoding="utf-8"), found)


def test_family(tmp_path: Path):
    found = measured(tmp_path, "--parts", "family")
    assert list(found["sections"]) == ["family, draw and backward", "family, whole"]
    for section in found["sections"].values():
        assert {row["estimator"] for row in section["rows"]} >= {"ReinMax", "ILSNewton", "ILSJoint", "ILSTempered"}
        assert all(row["microseconds"] > 0 and row["to ReinMax"] > 0 for row in section["rows"])
        assert {row["cpu, to ReinMax"] for row in section["rows"] if row["estimator"] == "ReinMax"} == {1.0}
    check_markdown((tmp_path / "bench.md").read_text(encoding="utf-8"), found)


def test_faces(tmp_path: Path):
    found = measured(tmp_path, "--parts", "faces")
    rows = {name: section["rows"] for name, section in found["sections"].items()}
    names = ("distribution", "gumbel_softmax", "gumbel_softmax, hard", "quantizer", "router", "later costs")
    assert list(rows) == [f"faces, {name}" for name in names]
    for face in rows.values():
        assert all(row["milliseconds"] > 0 and row["ratio"] > 0 for row in face)
        assert {row["ratio"] for row in face if row["way"] == face[0]["way"]} == {1.0}
        assert len({row["way"] for row in face}) > 1
    check_markdown((tmp_path / "bench.md").read_text(encoding="utf-8"), found)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--parts", "sampler"], "did you mean 'samplers'"),
        (["--repeats", "0"], "--repeats must be at least 1"),
        (["--threads", "-1"], "--threads at least 0"),
        (["--device", "gpu"], "one that this machine has, such as cpu; given 'gpu', did you mean 'cuda'?\n"),
        (["--device", "cud"], "given 'cud', did you mean 'cuda'?\n"),
        (["--device", "banana"], "given 'banana'\n"),
        (["--device", "cpu:x"], "given 'cpu:x', did you mean 'cpu'?\n"),
    ],
)
def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str):
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--folder", str(tmp_path / "never"), *words])
    assert stop.value.code == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_help_names_every_part(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    (listed,) = re.findall(r"what to measure: (.*?)\. May", said)
    assert listed.replace(" (unless given)", "").split(", ") == list(PARTS)


@pytest.mark.parametrize(("sizes", "head"), [(1, "way 8 x 16 x 64 x 1000"), (4, "16 x 16 x 16 x 16 x")])
def test_headings_are_broken_only_where_there_is_no_room(sizes: int, head: str):
    rows = [{"way": "a way", "size": f"{n + 8} x 16 x 64 x 1000", "ratio": 1.0} for n in range(sizes)]
    _show(Section("name", "title", rows, ("way", "size", "ratio")), Console(width=60, file=(shown := io.StringIO())))
    assert head in [" ".join(line.split()) for line in shown.getvalue().splitlines()]


def test_ratios_are_taken_within_a_repeat():
    slowed, steady = timing.Timing([2.0, 20.0, 4.0], [0.0] * 3), timing.Timing([1.0, 10.0, 1.0], [1.0] * 3)
    assert slowed.ratio(steady) == 2
    assert slowed.seconds() == 4


def test_methods_take_turns():
    calls: list[str] = []
    work = {name: (lambda name=name: calls.append(name)) for name in ("a", "b")}
    found = timing.interleaved(work, repeats=3, device=torch.device("cpu"), least=0.0)
    assert "".join(calls[-6:]) == "ababab"
    assert all(len(one.wall) == len(one.cpu) == 3 for one in found.values())


def test_cold_calls_come_once_a_turn_and_after_all_of_the_turn_before():
    calls: list[str] = []
    work = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    found = timing.cold(work, repeats=20, device=torch.device("cpu"))
    turns = ["".join(calls[first : first + 3]) for first in range(0, len(calls), 3)]
    assert len(turns) == 21
    assert {"".join(sorted(turn)) for turn in turns} == {"abc"}
    assert len(set(turns)) > 3
    assert all(len(one.wall) == len(one.cpu) == 20 for one in found.values())


def test_ils_is_timed_where_its_steps_leave_the_simplex_and_where_they_do_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(samplers, "pass_through", lambda *given: given)
    share = {}
    for name in ("ILS", "ILS, small gradients"):
        draw, logits, g = samplers.work(512, 32, torch.device("cpu"))[name]
        torch.autograd.grad(draw(logits), logits, g)
        share[name] = draw.__self__.diagnostics()["fallback_share"].item()
    assert share["ILS"] > 0.2
    assert share["ILS, small gradients"] == 0


def test_a_section_is_a_table_in_a_notebook():
    section = Section("two", "a < b", [{"way": "x", "ms": 1.5}], note="idle machine")
    shown = section._repr_html_()
    assert shown.startswith("<p>a &lt; b</p><div")
    assert "<td>x</td><td>1.5</td>" in shown
    assert shown.endswith("<p>idle machine</p>")
