"""compare --tune: options searched on tuning seeds, by any number of processes, killed or not, then reported."""

import multiprocessing
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from examples import EXAMPLES
from test_compare import lines, untimed, write

from ils_lightning.compare import compare
from ils_lightning.compare.grid.search import Range, Search
from ils_lightning.compare.grid.spec import Comparison, read
from ils_lightning.compare.tuning.choice import validated
from ils_lightning.compare.tuning.journal import storage
from ils_lightning.compare.tuning.ranges import OWN, RATE, searched, start
from ils_lightning.compare.tuning.study import Study
from ils_lightning.data import DiscreteData
from ils_lightning.describe import arguments, create, describe
from ils_lightning.estimators import Estimator

ESTIMATOR = "model.init_args.estimator"
CONTENT: dict[str, Any] = {
    "title": "tuned",
    "base": "toy1",
    "change": {"trainer.max_steps": 40, "model.init_args.chunk": 20},
    "seeds": [0, 1],
    "search": {"seeds": [7, 8]},
    "runs": [
        {"name": "Gumbel", "change": {ESTIMATOR: {"class_path": "GumbelSoftmax"}}},
        {"name": "steep", "change": {ESTIMATOR: {"class_path": "ReinMax"}}},  # slopes of 1e8: it diverges
    ],
}
TRIALS = 3
MADE = [example.make() for example in EXAMPLES]


def search(folder: Path, name: str = "out", **change: Any) -> Path:
    return compare(write(folder, {**CONTENT, **change}), folder / name, tune=TRIALS, workers=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search(tmp_path_factory.mktemp("whole"))


def trials(folder: Path) -> list[dict[str, str]]:
    return lines(folder / "trials.csv")


@pytest.mark.slow
def test_the_best_trial_is_reported_and_failures_are_counted(whole: Path) -> None:
    assert Counter(trial["run"] for trial in trials(whole)) == {"Gumbel": TRIALS, "steep": TRIALS}
    gumbel, steep = lines(whole / "tuned.csv")
    mine = [trial for trial in trials(whole) if trial["run"] == "Gumbel"]
    best = min(mine, key=lambda trial: float(trial["score"]))
    assert (float(mine[0][RATE]), float(mine[0][f"{ESTIMATOR}.init_args.temperature"])) == (0.01, 1.0)  # as in the file
    assert float(best["score"]) < float(mine[0]["score"])
    assert (gumbel["trials"], gumbel["failed"], float(gumbel["best"])) == ("3", "0", float(best["score"]))
    assert (steep["failed"], steep["tuned"]) == ("3", "")
    values = {key: float(best[key]) for key in (RATE, f"{ESTIMATOR}.init_args.temperature")}
    assert read(str(whole / "tuned.yaml")).runs[0].tuned == {"all": values}
    assert f"lr={values[RATE]}" in lines(whole / "results.csv")[0]["tuned"]
    assert all((whole / f"tuning.{kind}").stat().st_size > 5000 for kind in ("png", "svg"))


@pytest.mark.slow
def test_a_plain_comparison_of_what_was_written_gives_the_same_tables(whole: Path, tmp_path: Path) -> None:
    again = compare(str(whole / "tuned.yaml"), tmp_path / "again", workers=1)
    for name in ("table.csv", "results.csv"):
        assert untimed(again / name) == untimed(whole / name)
    assert not (again / "trials.csv").exists()


def work(folder: Path) -> None:
    search(folder)


def begun(folder: Path) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=work, args=(folder,))
    process.start()
    return process


@pytest.mark.long
def test_a_killed_search_goes_on_as_if_it_had_not_been(whole: Path, tmp_path: Path) -> None:
    for number in (3, 8):
        process = begun(tmp_path)
        while process.is_alive() and len(list(tmp_path.glob("out/runs/*/result.pt"))) < number:
            time.sleep(0.002)
        process.kill()
        process.join()
        assert process.exitcode == -9
    assert trials(search(tmp_path)) == trials(whole)
    assert untimed(tmp_path / "out/table.csv") == untimed(whole / "table.csv")


@pytest.mark.long
def test_processes_share_a_study(tmp_path: Path) -> None:
    both = [begun(tmp_path), begun(tmp_path)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    found = trials(tmp_path / "out")
    assert Counter(trial["run"] for trial in found) == {"Gumbel": TRIALS, "steep": TRIALS}
    assert len({trial[RATE] for trial in found if trial["run"] == "Gumbel"}) == TRIALS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": {"seeds": [1, 9]}}, r"tuning seeds \[1, 9\] and reporting seeds \[0, 1\] must differ"),
        ({"search": None, "seeds": [1000]}, r"tuning seeds \[1000, 1001\] and reporting seeds \[1000\] must differ"),
        ({"search": {"seeds": []}}, "needs tuning seeds"),
        ({"search": {"ranges": {RATE: {"low": 0, "high": 1}}}}, "a logarithmic range needs low > 0; given 0"),
        ({"search": {"ranges": {RATE: {"low": 2, "high": 1}}}}, "a range needs low < high"),
        ({"search": {"measure": "val/los"}, "seeds": [0]}, "has no measure 'val/los'"),
        ({"override": {RATE: 0.1}}, "lr is fixed by a setting or an override; it cannot be searched"),
        ({"runs": [{**CONTENT["runs"][0], "tuned": {"L4": {}}}]}, "tuned names 'L4'; it may name all"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search(tmp_path, **change)


def test_a_number_of_trials_and_optuna_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, CONTENT)
    with pytest.raises(ValueError, match="at least 1; given 0"):
        compare(file, tmp_path / "out", tune=0)
    monkeypatch.setattr("ils_lightning.extras.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--tune needs optuna: pip install 'ils-lightning\[tune\]'"):
        compare(file, tmp_path / "out", tune=1)


@pytest.mark.slow
def test_a_grid_s_seeds_measure_and_changes_serve_a_search(tmp_path: Path) -> None:
    tune = {"key": RATE, "candidates": [0.1], "seeds": [77]}
    content = {**CONTENT, "search": None, "tune": tune, "seeds": [0], "runs": CONTENT["runs"][:1]}
    folder = compare(write(tmp_path, content), tmp_path / "out", tune=1, workers=1)
    assert {int(path.name.split("-")[1]) for path in (folder / "runs").iterdir()} == {0, 77}
    assert "tune" not in yaml.safe_load((folder / "tuned.yaml").read_text())


def made(estimator: Any, **change: Any) -> tuple[Comparison, Search]:
    """A comparison of one run, and its search."""
    run = {"name": "one", "change": {ESTIMATOR: estimator}, **change}
    return create({"title": "one", "base": "toy1", "runs": [run]}, Comparison), Search()


@pytest.mark.parametrize("name", sorted({type(one).__name__ for one in MADE}))
def test_every_estimator_takes_both_ends_of_what_it_searches(name: str) -> None:
    description = describe(next(one for one in MADE if type(one).__name__ == name))
    known = arguments(description, Estimator)
    for option in [option for option in OWN if option in known][:1]:
        for end in (OWN[option].low, OWN[option].high):
            init = {**description["init_args"], option: end}
            made = create({**description, "init_args": init}, Estimator)
            assert describe(made)["init_args"][option] == end


def test_what_a_run_searches_unless_told() -> None:
    one, search = made({"class_path": "ILSNewton", "init_args": {"base": 0.25}})
    ranges = searched(one, search, one.runs[0], "")
    assert ranges[f"{ESTIMATOR}.init_args.base"] == Range(0.0, 1.0, log=False)
    assert (ranges[RATE].low, ranges[RATE].high) == pytest.approx((0.01 / 30, 0.3))
    assert start(one.configuration(one.runs[0], 0), ranges) == {RATE: 0.01, f"{ESTIMATOR}.init_args.base": 0.25}
    shared, search = made("ILS", settings={"option": "step_size", "levels": [0.1, 0.2]})
    assert list(searched(shared, search, shared.runs[0], "")) == [RATE]
    none, search = made("ILS", ranges={})
    assert list(searched(none, search, none.runs[0], "")) == [RATE]


def test_a_line_that_was_not_written_to_its_end_is_cut_off(tmp_path: Path) -> None:
    ranges = {"x": Range(0.1, 1.0)}

    def study() -> Study:
        return Study(storage(tmp_path), tmp_path, "one", ranges, {}, 0)

    first = study().propose(2)
    assert first is not None
    with (tmp_path / "journal.log").open("a") as journal:
        journal.write('{"op_code": 4, "wor')
    second = study().propose(2)
    assert second is not None
    study().tell(second, 0.5)
    study().tell(first, float("nan"))
    assert study().best() == second.values
    assert study().propose(2) is None


def test_the_trial_of_a_process_that_is_gone_is_made_by_another(tmp_path: Path) -> None:
    def study() -> Study:
        return Study(storage(tmp_path), tmp_path, "one", {"x": Range(0.1, 1.0)}, {}, 0)

    first = study().propose(1)
    assert first is not None
    assert study().propose(1) is None  # it is claimed
    first.claim.release()
    again = study().propose(1)
    assert again is not None
    assert again[:2] == first[:2]


@pytest.mark.parametrize(
    "change",
    [
        {"measure": "test/loss", "search": None},
        {"measure": "test/loss"},
        {"search": {"seeds": [7], "measure": "test/loss"}},
        {"measure": "test/loss", "search": None, "tune": {"key": RATE, "candidates": [0.1], "seeds": [7]}},
    ],
    ids=["no search", "a search that names none", "a search that names them", "a grid"],
)
def test_options_are_never_chosen_by_the_test_data(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ils_lightning.compare.training.attempt.train", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match=r"chosen by 'test/loss', on the test data .* search.measure .* val/loss"):
        search(tmp_path, **change)
    assert not (tmp_path / "out/trials.csv").exists()


def test_a_grid_is_not_chosen_by_the_test_data_either(tmp_path: Path) -> None:
    change = {"measure": "test/loss", "search": None, "tune": {"key": RATE, "candidates": [0.1], "seeds": [7]}}
    with pytest.raises(ValueError, match=r"chosen by 'test/loss', on the test data .*tune.measure"):
        compare(write(tmp_path, {**CONTENT, **change}), tmp_path / "out", workers=1)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "configs/compare").glob("*.yaml")), ids=lambda path: path.stem
)
def test_packaged_comparisons_are_tuned_by_validation_data_that_are_there(path: Path) -> None:
    comparison = read(str(path))
    chosen = comparison.search or comparison.tune
    measure = validated((chosen.measure if chosen else None) or comparison.measure)
    run = comparison.runs[0]
    change = chosen.change if chosen else {}
    data = comparison.configuration(run, 7, next(iter(run.parts())), change)["data"]
    assert measure is None or arguments(data, DiscreteData).get("validation", 1) > 0
