"""compare: stacked settings, resuming, tuning on other seeds, reports."""

import csv
import re

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from ils_lightning.cli import main
from ils_lightning.compare import Comparison, Run, Settings, compare
from ils_lightning.compare.grid.spec import assign, read
from ils_lightning.compare.report.curves import bias_floor
from ils_lightning.compare.report.statistics import bootstrap
from ils_lightning.compare.training.job import Job
from ils_lightning.packaged import find

ESTIMATOR = "model.init_args.estimator"
SMALL = {
    "title": "small",
    "base": "toy1",
    "change": {"trainer.max_steps": 40, "model.init_args.chunk": 20},
    "layout": "panels",
    "seeds": [0, 1],
    "runs": [
        {
            "name": "ILS",
            "floor": True,
            "change": {"model.init_args.estimator": {"class_path": "ILS", "init_args": {"pullback": "none"}}},
            "settings": {"option": "step_size", "levels": [0.02, 0.002]},
        },
        {"name": "Gumbel", "change": {"model.init_args.estimator": {"class_path": "GumbelSoftmax"}}},
    ],
}


def write(folder, content):
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def lines(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def untimed(path):
    """The lines of a table without the columns that say how long something took."""
    return [{name: value for name, value in line.items() if "second" not in name} for line in lines(path)]


@pytest.mark.slow
def test_writes_table_figure_and_tensorboard_then_skips_what_is_finished(tmp_path, capsys):
    folder = compare(write(tmp_path, SMALL), tmp_path / "out")
    table = (folder / "table.csv").read_text()
    assert [line.split(",")[1] for line in table.splitlines()[1:]] == ["step_size=0.02", "step_size=0.002", ""]
    assert all((folder / f"figure.{kind}").stat().st_size > 5000 for kind in ("png", "svg"))
    runs = [EventAccumulator(str(run)).Reload() for run in (folder / "tensorboard").iterdir() if run.is_dir()]
    (words,) = (folder / "tensorboard").glob("events.out.*")
    assert set(EventAccumulator(str(words)).Reload().Tags()["tensors"]) == {
        "table/text_summary",
        "ranking/text_summary",
    }
    assert [run.Tags()["scalars"].count("CategoricalFit-kl") for run in runs] == [1, 1, 1]
    assert all(tag.startswith("CategoricalFit-") for run in runs for tag in run.Tags()["scalars"])
    for run in runs:
        (written,) = run.Tensors("custom_scalars__config__")
        layout = layout_pb2.Layout.FromString(written.tensor_proto.string_val[0])
        charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
        assert charts["KL(true || learnt) / categories"] == ["CategoricalFit-kl$"]
        shown = [any(re.match(one, tag) for one in tags for tag in run.Tags()["scalars"]) for tags in charts.values()]
        assert len(shown) >= 3
        assert all(shown)
    assert all("_hparams_/session_start_info" in run.summary_metadata for run in runs)
    assert all("_hparams_/experiment" not in run.summary_metadata for run in runs)  # else one run's columns are all's
    times = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.pt")}
    assert len(times) == 4
    compare(write(tmp_path, SMALL), tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.pt")} == times
    assert (folder / "table.csv").read_text() == table
    assert "ILS step_size=0.02" in capsys.readouterr().out


@pytest.mark.slow
def test_interrupted_comparison_gives_the_same_result(tmp_path, monkeypatch):
    whole = compare(write(tmp_path, SMALL), tmp_path / "whole")
    keep, calls = Job.keep, []

    def interrupt(job, result):
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        keep(job, result)

    monkeypatch.setattr(Job, "keep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compare(write(tmp_path, SMALL), tmp_path / "parts")
    monkeypatch.setattr(Job, "keep", keep)
    parts = compare(write(tmp_path, SMALL), tmp_path / "parts")
    assert untimed(parts / "table.csv") == untimed(whole / "table.csv")
    assert untimed(parts / "results.csv") == untimed(whole / "results.csv")


@pytest.mark.slow
def test_tuning_takes_the_best_value_on_other_seeds(tmp_path):
    key = "model.init_args.optimizer.init_args.lr"
    content = {**SMALL, "tune": {"key": key, "candidates": [1e-9, 0.5], "seeds": [9]}, "layout": "lines"}
    content["runs"] = SMALL["runs"][1:]
    folder = compare(write(tmp_path, content), tmp_path / "out")
    assert "lr=0.5" in (folder / "table.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tune": {"key": "a", "candidates": [1.0], "seeds": [1]}}, "must differ"),
        ({"runs": []}, "different names"),
        ({"seeds": []}, "at least one seed"),
        ({"base": {"model": {}}}, "sections model, data and trainer"),
        ({"sedes": [1]}, "sedes"),
        ({"seeds": "x"}, "seeds"),
    ],
)
def test_bad_files_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path, {**SMALL, **change}))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"strategy": "ddp_fork", "devices": 2}, {"devices": 2}, {"strategy": "ddp_spawn"}])
def test_several_ranks_a_run_are_refused_before_any_is_trained(options, tmp_path):
    change = {f"trainer.{name}": value for name, value in options.items()} | {"trainer.accelerator": "cpu"}
    with pytest.raises(ValueError, match="in one process on one device, and several runs at a time by --workers"):
        compare(write(tmp_path, {**SMALL, "change": {**SMALL["change"], **change}}), tmp_path / "out")
    assert not list(tmp_path.glob("out/runs/*"))


def test_a_missing_file_lists_the_packaged_ones():
    with pytest.raises(ValueError, match="compare/toy1"):
        find("toy_one", "comparison")


def test_assign_makes_missing_levels():
    config = {"a": 1}
    assign(config, "b.c", 2)
    assert config == {"a": 1, "b": {"c": 2}}


def test_floor_is_where_the_mean_update_of_the_program_vanishes():
    p = torch.tensor([0.5, 0.3, 0.2])
    q = torch.tensor([0.25, 0.21, 0.16]) / 0.62
    assert bias_floor(p) == pytest.approx(float((p * (p / q).log()).sum()) / 3, rel=1e-5)
    pi = q  # E over z ~ pi of pi_D / pi, with pi_D = p restricted to the categories that were not drawn
    update = sum(pi[k] * torch.where(torch.arange(3) == k, 0, p) / (1 - p[k]) for k in range(3)) / pi
    torch.testing.assert_close(update, update.mean().expand(3))


def test_bootstrap_interval_covers():
    generator = torch.Generator().manual_seed(0)
    inside = sum(
        low <= 0 <= high for low, high in (bootstrap(torch.randn(40, generator=generator)) for _ in range(300))
    )
    assert abs(inside / 300 - 0.94) < 4.5 * (0.94 * 0.06 / 300) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy1", "toy1_algorithm", "toy1_paired", "toy1_energy", "toy1_energy_bilinear"])
def test_packaged_comparisons_run(tmp_path, name):
    comparison = read(f"compare/{name}")
    content = yaml.safe_load(find(f"compare/{name}").read_text())
    content["change"] = {**comparison.change, "trainer.max_steps": 2, "model.init_args.chunk": 1}
    content["tune"] = None
    for run in content["runs"]:
        run["change"].pop("trainer.max_steps", None)
    assert compare(write(tmp_path, content), tmp_path / "out").exists()


def test_a_mistake_in_the_last_run_shows_before_the_first_one_trains(tmp_path):
    wrong = {"name": "wrong", "change": {"model.init_args.estimator": {"class_path": "ISL"}}}
    with pytest.raises(ValueError, match="run 'wrong'"):
        compare(write(tmp_path, {**SMALL, "runs": [*SMALL["runs"], wrong]}), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("result.pt"))


@pytest.mark.parametrize("steps", [None, 0, -1])
def test_a_run_without_an_end_is_refused(tmp_path, steps):
    content = {**SMALL, "change": {**SMALL["change"], "trainer.max_steps": steps}}
    with pytest.raises(ValueError, match=r"max_steps or trainer.max_epochs must be a whole number"):
        compare(write(tmp_path, content), tmp_path / "out")


def test_tuning_without_a_finite_candidate_is_a_failure_in_the_table(tmp_path, capsys):
    diverging = {"class_path": "ReinMax"}  # slopes of 1e8 drive learnt probabilities to zero
    content = {
        **SMALL,
        "tune": {"key": "model.init_args.optimizer.init_args.lr", "candidates": [0.1, 0.2], "seeds": [9]},
        "runs": [{"name": "steep", "change": {"model.init_args.estimator": diverging}}],
    }
    (line,) = lines(compare(write(tmp_path, content), tmp_path / "out") / "table.csv")
    assert "lr gives a finite score; tried 0.1, 0.2: diverged" in line["failed"]
    assert "steep failed: no candidate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model.init_args.bogus", 1, "model.init_args.bogus: CategoricalFit has no option 'bogus'"),
        ("model.init_args.loss.init_args.bogus", 1, "model.init_args.loss.init_args.bogus: ExpectedKL has no option"),
        (f"{ESTIMATOR}.init_args.temprature", 1, f"{ESTIMATOR}.init_args.temprature: ReinMax has no option"),
        (f"{ESTIMATOR}.init_args.temperature", "x", f"{ESTIMATOR}.init_args.temperature: must be a number"),
        (
            "model.init_args.optimizer.init_args.lrr",
            1,
            "model.init_args.optimizer.init_args.lrr: SGD has no option 'lrr', did you mean 'lr'",
        ),
        ("data.init_args.bogus", 1, "data.init_args.bogus: TrueDistribution has no option 'bogus'"),
        ("data.init_args.categories", "x", "data.init_args.categories: must be a whole number; given 'x'"),
        ("data.class_path", "Digitz", "data: unknown class 'Digitz', did you mean 'Digits'"),
        ("trainer.max_stepz", 1, "trainer.max_stepz: Trainer has no option 'max_stepz', did you mean 'max_steps'"),
        ("modle.init_args.chunk", 1, "there is no section 'modle', did you mean 'model'"),
    ],
)
def test_a_mistake_in_a_file_is_named_by_its_run_and_its_key(tmp_path, capsys, key, value, said):
    second = {"name": "second", "change": {ESTIMATOR: {"class_path": "ReinMax", "init_args": {}}, key: value}}
    grid = {"title": "t", "base": "toy1", "runs": [{"name": "first"}, second], "seeds": [0]}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    words = ["compare", str(tmp_path / "grid.yaml"), "--override=trainer.max_steps=2", f"--folder={tmp_path}"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert f"error: compare: run 'second': {said}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "trainer.max_stepz=2",
            "override trainer.max_stepz: Trainer has no option 'max_stepz', did you mean 'max_steps'?; its options: ",
        ),
        (
            f"{ESTIMATOR}.init_args.x=1",
            f"override {ESTIMATOR}.init_args.x in run 'Gumbel': GumbelSoftmax has no option",
        ),
    ],
)
def test_a_mistake_in_an_override_is_told_of_the_override(tmp_path, word, said):
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        compare(write(tmp_path, SMALL), tmp_path / "out", runs=["Gumbel"], override=[word])
    assert len(str(refused.value).split(", ")) < 20  # of 40 options of Trainer


def test_of_many_runs_only_the_nearest_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no run 'Reinmax', did you mean 'ReinMax'\?; it has .* and \d\d more$"):
        compare("compare/vae_digits", tmp_path / "out", runs=["Reinmax"])


def test_a_comparison_without_data_is_told_what_may_stand_there(tmp_path, capsys):
    base = {"model": {"class_path": "DiscreteVAE"}, "trainer": {"max_epochs": 1}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({"title": "t", "base": base, "runs": [{"name": "a"}]}))
    with pytest.raises(SystemExit):
        main(["compare", str(tmp_path / "grid.yaml"), f"--folder={tmp_path}"])
    said = capsys.readouterr().err
    assert "data is None in run 'a'; it may be {class_path: my_module.MyClass}, given in base" in said


def test_the_runs_that_it_is_given_stay_as_they_are():
    run = Run("a")
    comparison = Comparison("t", "toy1", [run], settings=Settings([1.5, 2.0], option="model.init_args.power"))
    assert comparison.runs[0].settings is comparison.settings
    assert run == Run("a")
