"""compare with a test set: ranking by a measure, named settings, failures, parts, several processes."""

import csv
import io
import shutil
import signal
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from ils_lightning.cli import _repeatable
from ils_lightning.compare import compare
from ils_lightning.compare.grid.spec import read
from ils_lightning.compare.launchers import Pool
from ils_lightning.compare.report import screen, table, wide
from ils_lightning.compare.training import fit as training
from ils_lightning.compare.training.attempt import attempt
from ils_lightning.compare.training.job import make
from ils_lightning.modules import DiscreteVAE
from ils_lightning.packaged import find

ESTIMATOR = "model.init_args.estimator"
SHORT = {
    "trainer.max_epochs": 2,
    "trainer.limit_train_batches": 2,
    "model.init_args.draws": 2,
    "model.init_args.importance_samples": 2,
}
CONTENT = {
    "title": "small",
    "base": "vae_digits",
    "layout": "budgets",
    "measure": "test/loss",
    "change": SHORT,
    "settings": {
        "levels": [
            {"name": "L2K3", "change": {"model.init_args.latents": 2, "model.init_args.categories": 3}},
            {"name": "L3K2", "change": {"model.init_args.latents": 3, "model.init_args.categories": 2}},
        ]
    },
    "seeds": [0, 1],
    "runs": [
        {
            "name": "ReinMax",
            "change": {ESTIMATOR: {"class_path": "ReinMax"}},
            "by_setting": {"L3K2": {f"{ESTIMATOR}.init_args.temperature": 1.3}},
        },
        {"name": "four", "change": {ESTIMATOR: {"class_path": "LeaveOneOut"}}, "only": ["L2K3"], "reference": True},
        {"name": "binary", "change": {ESTIMATOR: {"class_path": "DisArm"}}},
    ],
}


def write(folder, change):
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, **change}))
    return str(path)


def lines(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def untimed(path):
    return [{name: value for name, value in line.items() if "second" not in name} for line in lines(path)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("measured")
    return compare(write(place, {}), place / "out", workers=1)


@pytest.mark.slow
def test_the_table_ranks_by_the_measure_on_the_test_set(folder):
    raw, rows = lines(folder / "results.csv"), lines(folder / "table.csv")
    assert [(row["run"], row["setting"]) for row in rows[-2:]] == sorted(
        [("ReinMax", "L3K2"), ("binary", "L3K2")],
        key=lambda name: next(float(row["measured"]) for row in rows if (row["run"], row["setting"]) == name),
    )
    mine = [float(line["test/loss"]) for line in raw if (line["run"], line["setting"]) == ("ReinMax", "L2K3")]
    row = next(row for row in rows if (row["run"], row["setting"]) == ("ReinMax", "L2K3"))
    assert float(row["measured"]) == pytest.approx(sum(mine) / 2, rel=1e-6)
    assert all(float(line["test/iwae"]) <= float(line["test/loss"]) + 1e-3 for line in raw if line["test/iwae"])
    assert (folder / "ranking.svg").stat().st_size > 5000
    assert (folder / "figure.png").stat().st_size > 5000


def test_evaluations_are_those_of_all_rows_of_all_steps(folder):
    raw = lines(folder / "results.csv")
    assert {line["optimizer_steps"] for line in raw if not line["failed"]} == {"4"}
    evaluations = {(line["run"], line["setting"]): line["evaluations"] for line in raw}
    assert evaluations["ReinMax", "L2K3"] == "400.0"  # 4 steps of 100 rows
    assert evaluations["four", "L2K3"] == "1600.0"


GROWING = {
    "seeds": [0],
    "settings": None,
    "runs": [
        {
            "name": "growing",
            "change": {
                ESTIMATOR: {"class_path": "LatinHypercube", "init_args": {"estimator": {"class_path": "ReinMax"}}},
                "trainer.callbacks": [
                    {
                        "class_path": "OptionSchedule",
                        "init_args": {
                            "option": "samples",
                            "schedule": {"class_path": "Linear", "init_args": {"start": 1, "end": 4, "steps": 3}},
                        },
                    }
                ],
            },
        }
    ],
}


def test_evaluations_of_an_estimator_that_draws_more_as_it_goes_on_are_added_up(tmp_path, monkeypatch):
    """4 steps of 100 rows with 1, 2, 3 and 4 draws; a fit that goes on after the first epoch adds to its sum."""
    half = compare(write(tmp_path, {**GROWING, "change": {**SHORT, "trainer.max_epochs": 1}}), tmp_path / "half")
    assert [float(line["evaluations"]) for line in lines(half / "results.csv")] == [300.0]
    file = write(tmp_path, GROWING)
    comparison = read(file)
    job = make(comparison, comparison.runs[0], "", 0, {}, tmp_path / "out/runs")
    job.folder.mkdir(parents=True)
    shutil.copy(next(half.glob("runs/*/last.ckpt")), job.folder)
    trained, step = [], DiscreteVAE.training_step
    monkeypatch.setattr(DiscreteVAE, "training_step", lambda self, batch: trained.append(batch) or step(self, batch))
    out = compare(file, tmp_path / "out", workers=1)
    assert len(trained) == 2  # the batches of the second epoch
    assert [float(line["evaluations"]) for line in lines(out / "results.csv")] == [1000.0]
    result = torch.load(job.folder / "result.pt", weights_only=True)
    assert (result["steps"].tolist(), result["spent"].tolist()) == ([2, 4], [300.0, 1000.0])
    (job.folder / "result.pt").unlink()  # stopped after the last step, before the result was kept
    compare(file, tmp_path / "out", workers=1)
    assert len(trained) == 2
    assert torch.load(job.folder / "result.pt", weights_only=True)["spent"].tolist() == [300.0, 1000.0]


def test_differences_are_paired_by_seed(folder):
    raw = {(line["run"], line["setting"], line["seed"]): line for line in lines(folder / "results.csv")}
    apart = [
        float(raw["ReinMax", "L2K3", seed]["test/loss"]) - float(raw["four", "L2K3", seed]["test/loss"])
        for seed in "01"
    ]
    row = next(row for row in lines(folder / "table.csv") if (row["run"], row["setting"]) == ("ReinMax", "L2K3"))
    assert (row["reference"], row["pairs"]) == ("four", "2")
    assert float(row["difference"]) == pytest.approx(sum(apart) / 2, abs=1e-5)
    assert float(row["difference_error"]) == pytest.approx(abs(apart[0] - apart[1]) / 2, abs=1e-5)


def test_an_estimator_that_does_not_apply_is_a_line_of_the_table(folder):
    row = next(row for row in lines(folder / "table.csv") if (row["run"], row["setting"]) == ("binary", "L2K3"))
    assert row["measured"] == "nan"
    assert row["failed"].startswith("DisArm is defined for 2 categories only; given 3")


@pytest.mark.long
def test_ranking_has_a_row_for_each_run_and_a_column_for_each_setting():
    def row(run, setting, measured, **more):
        return table.Row(run, setting, measure="test/loss", seeds=2, measured=measured, **more)

    rows = [
        row("ours", "small", 19.604, difference=-0.4801, difference_error=0.0558),
        row("theirs", "small", 20.084),
        table.Row("binary", "small", measure="test/loss", failed="2 categories only"),
        row("theirs", "large", 21.5),
    ]
    assert wide.markdown(rows).splitlines() == [
        "| run | small | large |",
        "|---|---:|---:|",
        "| ours | **19.60** (-0.48 +- 0.056) |  |",
        "| theirs | 20.08 | **21.50** |",
        "| binary | failed |  |",
    ]


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_workers(folder, tmp_path):
    parallel = compare(write(tmp_path, {}), tmp_path / "out", workers=2)
    for name in ("results.csv", "table.csv"):
        assert untimed(parallel / name) == untimed(folder / name)


@pytest.fixture
def _without_pictures(monkeypatch):
    monkeypatch.setattr("ils_lightning.compare._figures", lambda *_: {})


@pytest.mark.usefixtures("_without_pictures")
def test_a_part_keeps_what_is_finished_of_the_whole(folder, tmp_path):
    before = shutil.copytree(folder, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in before.glob("runs/*/result.pt")}
    compare(write(tmp_path, {}), before, runs=["four"], seeds=[1], workers=1)
    assert {path: path.stat().st_mtime_ns for path in before.glob("runs/*/result.pt")} == times
    for name in ("results.csv", "table.csv"):
        assert lines(before / name) == lines(folder / name)


@pytest.mark.slow
@pytest.mark.usefixtures("_without_pictures")
def test_parts_add_up_to_the_whole(folder, tmp_path, capsys):
    place = tmp_path / "out"
    compare(write(tmp_path, {}), place, runs=["four", "binary"], seeds=[0], workers=1)
    assert {(line["run"], line["seed"]) for line in lines(place / "results.csv")} == {("four", "0"), ("binary", "0")}
    assert "not trained yet: ReinMax L2K3, seed 0, 1\n" in capsys.readouterr().out
    assert "not trained yet: four L2K3, seed 1</p>" in (place / "report.html").read_text()
    compare(write(tmp_path, {}), place, seeds=[1], workers=1)
    compare(write(tmp_path, {}), place, runs=["ReinMax", "binary"], seeds=[0], workers=1)
    assert "not trained yet" not in (place / "report.html").read_text()
    for name in ("results.csv", "table.csv"):
        assert untimed(place / name) == untimed(folder / name)


@pytest.mark.slow
@pytest.mark.usefixtures("_without_pictures")
def test_another_configuration_s_results_are_not_mixed_in(tmp_path):
    place, one = tmp_path / "out", {"runs": ["four"], "seeds": [0], "workers": 1}
    compare(write(tmp_path, {}), place, **one)
    compare(write(tmp_path, {}), place, override=["trainer.max_epochs=1"], **(one | {"seeds": [1]}))
    assert [line["seed"] for line in lines(place / "results.csv")] == ["1"]
    assert "changed for all runs: trainer.max_epochs=1" in (place / "report.html").read_text()


def test_the_page_has_ranking_measurements_figures_file_and_failures(folder):
    text = (folder / "report.html").read_text()
    rows = lines(folder / "table.csv")
    best = min((row for row in rows if row["setting"] == "L3K2"), key=lambda row: float(row["measured"]))
    assert f"L3K2: {best['run']} ({float(best['measured']):.5g})" in text
    for row in rows:
        assert row["measured"] == "nan" or f"<td>{float(row['measured']):.5g}</td>" in text
    assert text.count('<figure class="wide"') == text.count('<figure class="narrow"') == 2
    assert text.count("<svg") == 4
    assert "by_setting:" in text
    assert "DisArm is defined for 2 categories only" in text
    for outside in ("<script", "<link", "src=", "@import", "url(http"):
        assert outside not in text


@pytest.mark.slow
@pytest.mark.usefixtures("_without_pictures")
def test_a_part_of_a_tuned_comparison_keeps_what_was_tuned(tmp_path):
    tune = {"key": "model.init_args.optimizer.init_args.lr", "candidates": [1e-9, 0.01], "seeds": [9]}
    change = {"tune": tune | {"measure": "val/loss"}, "settings": None, "seeds": [0]}
    change["runs"] = [
        {"name": name, "change": {ESTIMATOR: {"class_path": name}}} for name in ("ReinMax", "LeaveOneOut")
    ]
    for name in ("ReinMax", "LeaveOneOut"):
        compare(write(tmp_path, change), tmp_path / "out", runs=[name], workers=1)
    assert [line["run"] for line in lines(tmp_path / "out" / "results.csv")] == ["ReinMax", "LeaveOneOut"]
    assert all("lr=" in line["tuned"] for line in lines(tmp_path / "out" / "results.csv"))
    assert len(lines(tmp_path / "out" / "tuning.csv")) == 4


@pytest.mark.parametrize("width", [80, 120])
def test_the_printed_table_fits(folder, width):
    comparison = read(write(folder, {}))
    rows = [table.Row(run.name + " with a name", "L2K3", "loss", "test/loss", 2, 1) for run in comparison.runs]
    for number, row in enumerate(rows):
        row.measured, row.standard_error, row.difference, row.evaluations, row.seconds = 20.123, 0.1, number, 1e6, 9.5
        row.at_equal_evaluations, row.at_equal_seconds, row.plateau, row.tuned = 21.0, 21.0, 21.0, "lr=0.001"
    console = Console(width=width, record=True, force_terminal=False, file=io.StringIO())
    screen.show(rows, console)
    text = console.export_text().splitlines()
    assert max(map(len, text)) <= width
    assert any("ReinMax with a name L2K3" in line and "20.123" in line for line in text)
    (headings,) = [line for line in text if line.split()[:1] == ["run"]]
    assert ("f evaluations" in headings) == (width == 120)
    assert any("no room here for: " in line for line in text)


def test_the_setting_s_own_values_win_over_the_run_s_and_overrides_over_all(tmp_path):
    comparison = read(write(tmp_path, {}))
    run = comparison.runs[0]
    temperature = ("model", "init_args", "estimator")
    assert "init_args" not in dig(comparison.configuration(run, 0, "L2K3"), *temperature)
    assert dig(comparison.configuration(run, 0, "L3K2"), *temperature)["init_args"] == {"temperature": 1.3}
    part = comparison.select(overrides={f"{ESTIMATOR}.init_args.temperature": 9})
    assert dig(part.configuration(run, 0, "L3K2"), *temperature)["init_args"] == {"temperature": 9}


def dig(config, *keys):
    for key in keys:
        config = config[key]
    return config


def test_a_part_is_the_same_as_in_the_whole(tmp_path):
    whole = read(write(tmp_path, {"paired": False}))
    part = whole.select(runs=["four"], seeds=[1])
    assert [run.name for run in part.runs] == ["four"]
    assert part.configuration(part.runs[0], 1, "L2K3") == whole.configuration(whole.runs[1], 1, "L2K3")
    assert [list(run.parts()) for run in whole.select(settings=["L3K2"]).runs] == [["L3K2"], ["L3K2"]]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"runs": ["Reinmax"]}, "no run 'Reinmax', did you mean 'ReinMax'"),
        ({"seeds": [7]}, "no reporting seed 7; it has 0, 1"),
        ({"settings": ["L9"]}, "no setting trained by itself 'L9'"),
        ({"runs": ["four"], "settings": ["L3K2"]}, "none of the runs"),
    ],
)
def test_unknown_parts_are_named(tmp_path, chosen, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path, {})).select(**chosen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"levels": [1.0]}}, "need the option"),
        ({"settings": {"levels": [{"name": "a"}, 1.0], "option": "b"}}, "names with changes"),
        ({"settings": {"levels": [{"name": "a"}, {"name": "a"}]}}, "different names"),
        ({"settings": {"levels": [{"name": "L2K4"}]}}, "no setting 'L3K2' that .* there are L2K4"),
        (
            {"settings": {"levels": [1.0], "option": "temperature"}, "runs": CONTENT["runs"][2:]},
            "its settings share one",
        ),
    ],
)
def test_bad_settings_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path, change))


def test_a_misspelt_class_is_met_with_the_nearest(tmp_path):
    runs = [{"name": "wrong", "change": {ESTIMATOR: {"class_path": "ReinMx"}}}]
    with pytest.raises(ValueError, match=r"run 'wrong L2K3': .*unknown class 'ReinMx', did you mean 'ReinMax'"):
        compare(write(tmp_path, {"runs": runs}), tmp_path / "out", workers=1)


@pytest.mark.usefixtures("_without_pictures")
def test_a_measure_that_is_not_there_is_met_with_the_nearest_and_costs_no_training(tmp_path):
    place, one = tmp_path / "out", {"seeds": [0], "runs": ["four"], "workers": 1}
    said = (
        r"no measure 'test/los', did you mean 'test/loss'\?; it logged .* and \d+ more\. What has been trained is kept"
    )
    with pytest.raises(ValueError, match=said):
        compare(write(tmp_path, {"measure": "test/los"}), place, **one)
    (kept,) = place.glob("runs/*/result.pt")
    written = kept.stat().st_mtime_ns
    compare(write(tmp_path, {}), place, **one)
    assert [path.stat().st_mtime_ns for path in place.glob("runs/*/result.pt")] == [written]


@pytest.mark.usefixtures("_without_pictures")
def test_of_a_larger_comparison_the_screen_counts_what_is_not_trained(folder, tmp_path, capsys):
    """Eight lines are listed, more are counted by trainings; the page has each."""
    place = shutil.copytree(folder, tmp_path / "out")
    others = [{"name": f"other {number}", "change": {ESTIMATOR: "ReinMax"}} for number in range(5)]
    one = {"runs": ["four"], "seeds": [0], "workers": 1}
    compare(write(tmp_path, {"runs": [*CONTENT["runs"], *others[:4]]}), place, **one)
    assert capsys.readouterr().out.count("not trained yet: other ") == 8
    compare(write(tmp_path, {"runs": [*CONTENT["runs"], *others]}), place, **one)
    said = [line for line in capsys.readouterr().out.splitlines() if "not trained yet" in line]
    assert said == ["not trained yet: 20 of 30 trainings; report.html lists them"]
    assert (place / "report.html").read_text().count("not trained yet: other ") == 10


@pytest.mark.slow
def test_tuning_is_by_run_and_setting_and_may_hold_out_data(tmp_path):
    tune = {"key": "model.init_args.optimizer.init_args.lr", "candidates": [1e-9, 0.01], "seeds": [9]}
    tune |= {"measure": "val/loss", "change": {"data.init_args.validation": 500}}
    change = {"tune": tune, "change": {**SHORT, "data.init_args.validation": 0}, "runs": CONTENT["runs"][:1]}
    folder = compare(write(tmp_path, change), tmp_path / "out", seeds=[0], workers=1)
    assert {row["tuned"] for row in lines(folder / "table.csv")} == {"lr=0.01"}
    assert len(lines(folder / "tuning.csv")) == 4
    assert "val/loss" not in lines(folder / "results.csv")[0]


HOLDER = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_what_another_process_trains_is_left_to_it_until_it_dies(tmp_path):
    comparison = read(write(tmp_path, {}))
    job = make(comparison, comparison.runs[1], "L2K3", 0, {}, tmp_path)
    job.folder.mkdir()
    command = [sys.executable, "-c", HOLDER, str(job.folder / "claim")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert attempt(job, lambda share: None) is None
        other.send_signal(signal.SIGKILL)
    result = attempt(job, lambda share: None)
    assert result is not None
    assert torch.isfinite(result["values"]).all()


def test_any_other_error_is_tried_again(tmp_path, monkeypatch):
    comparison = read(write(tmp_path, {}))
    job = make(comparison, comparison.runs[1], "L2K3", 0, {}, tmp_path)
    monkeypatch.setattr("ils_lightning.modules.DiscreteVAE.curve", lambda self: 1 / 0)
    shares = []
    with Pool(1, shares.append) as pool:
        ((_, result),) = pool.results([job])
    assert result["failed"].startswith("ZeroDivisionError: division by zero")
    assert sum(shares) == pytest.approx(1)
    assert job.result() is None
    monkeypatch.undo()
    assert "failed" not in (attempt(job, shares.append) or {"failed": 1})


def test_options_that_take_lists_may_be_repeated():
    words = ["compare/toy1", "--seeds", "0", "--seeds=1", "--runs", "[a, b]", "--folder", "x", "--override", "a.b=c"]
    expected = ["compare/toy1", "--seeds+=0", "--seeds+=1", "--runs=[a, b]", "--folder", "x", "--override+=a.b=c"]
    assert _repeatable(words, compare) == expected


@pytest.mark.parametrize("name", ["vae_digits", "vae_mnist"])
def test_every_run_of_a_packaged_ranking_can_be_made(name):
    comparison = read(f"compare/{name}")
    configs = [comparison.configuration(run, 0, setting) for run in comparison.runs for setting in run.parts()]
    assert len(configs) == len({yaml.safe_dump(config) for config in configs}) >= 18
    assert yaml.safe_load(find(f"compare/{name}").read_text())["measure"] == "test/loss"


@pytest.mark.slow
def test_a_missing_file_is_told_before_anything_is_trained_and_not_kept(tmp_path):
    data = {"class_path": "ImageFiles", "init_args": {"path": str(tmp_path / "mine.npy")}}
    change = {"change": {**SHORT, "data": data}, "runs": CONTENT["runs"][:1], "seeds": [0]}
    file = write(tmp_path, change)
    with pytest.raises(ValueError, match=r"path must be a folder of images or a \.npy or \.npz file"):
        compare(file, tmp_path / "out", workers=1)
    images = torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(0)).mul(255).to(torch.uint8)
    np.save(tmp_path / "mine.npy", images.numpy())
    rows = lines(compare(file, tmp_path / "out", workers=1) / "table.csv")
    assert [row["failed"] for row in rows] == ["", ""]


def test_runs_stand_below_their_setting_and_long_names_break_between_words(folder):
    console = Console(width=80, record=True, file=io.StringIO())
    long = "DecoupledStraightThroughGumbelSoftmax"
    rows = [table.Row(run, setting, measure="test/loss", seeds=1) for setting in "AB" for run in ("ReinMax", long)]
    screen.show(rows, console)
    shown = [line.strip() for line in console.export_text().splitlines() if line.strip()]
    of_a_setting = ["ReinMax", "DecoupledStraightThrough", "GumbelSoftmax"]
    assert shown[-8:] == ["A", *of_a_setting, "B", *of_a_setting]


def test_no_model_or_data_outlive_their_job(tmp_path, monkeypatch):
    made = []

    def remember(config):
        model, data = original(config)
        made.extend([weakref.ref(model), weakref.ref(data)])
        return model, data

    original = training.make
    monkeypatch.setattr(training, "make", remember)
    comparison = read(write(tmp_path, {}))
    attempt(make(comparison, comparison.runs[0], "L2K3", 0, {}, tmp_path), lambda share: None)
    assert [reference() for reference in made] == [None, None]


@pytest.mark.slow
def test_workers_end_with_the_comparison_that_started_them():
    script = (
        "import time; from ils_lightning.compare.launchers import Pool, cores\n"
        "with Pool(2, print) as pool:\n"
        "    pool._executor.submit(cores).result(); print('ready', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        assert process.communicate(timeout=60)[0] == b""  # at the end of the file no worker holds it open
