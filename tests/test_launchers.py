"""compare --launcher: the same results wherever jobs are trained, finished ones skipped, mistakes in one line."""

import os
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_slurm
import pytest
import torch
from filelock import FileLock
from kills import differences
from submitit.core.utils import DelayedSubmission, UncompletedJobError
from test_compare import SMALL, untimed, write

from ils_lightning.cli import main
from ils_lightning.compare import compare
from ils_lightning.compare.grid.spec import read
from ils_lightning.compare.launchers import launch, slurm_array
from ils_lightning.compare.training.job import Job, make

TWO = {**SMALL, "seeds": [0], "runs": [{**run, "floor": False} for run in SMALL["runs"]]}
LOCAL = ["cluster=local", "timeout_min=5"]


def array(folder: Path, workers: int | None = None, **options: Any) -> slurm_array.SlurmArray:
    made = launch("submitit", folder, workers, {"cluster": "local", **options})(lambda share: None)
    assert isinstance(made, slurm_array.SlurmArray)
    return made


def jobs(folder: Path) -> dict[int, Job]:
    comparison = read(write(folder, TWO))
    return {number: make(comparison, run, "", 0, {}, folder) for number, run in enumerate(comparison.runs)}


def assert_same(one: Path, other: Path) -> None:
    """Tables and kept results, bit for bit."""
    for name in ("table.csv", "results.csv"):
        assert untimed(one / name) == untimed(other / name)
    kept = {path.parent.name: path for path in one.glob("runs/*/result.pt")}
    assert kept.keys() == {path.parent.name for path in other.glob("runs/*/result.pt")}
    assert len(kept) == 2
    for name, path in kept.items():
        pair = torch.load(path, weights_only=True), torch.load(other / "runs" / name / "result.pt", weights_only=True)
        assert differences(*pair) == []


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    return compare(write(folder, TWO), folder / "out", workers=1)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return fake_slurm.install(tmp_path / "bin")


@pytest.mark.long
def test_processes_of_submitit_give_the_same_tables_and_finished_runs_are_skipped(tmp_path: Path, pooled: Path) -> None:
    def start() -> Path:
        file = write(tmp_path, TWO)
        return compare(file, tmp_path / "out", workers=2, launcher="submitit", launcher_options=LOCAL)

    folder = start()
    assert_same(folder, pooled)
    assert len(list(folder.glob("submitit/*/*_result.pkl"))) == 2
    start()
    assert len(list(folder.glob("submitit/*/*_submitted.pkl"))) == 2


@pytest.mark.long
def test_an_array_of_slurm_gets_its_parameters_and_gives_the_same_tables(
    tmp_path: Path, pooled: Path, slurm: Path
) -> None:
    options = ["partition=long", "timeout_min=90", "mem_gb=3"]
    file = write(tmp_path, TWO)
    assert_same(compare(file, tmp_path / "out", workers=1, launcher="submitit", launcher_options=options), pooled)
    script = (slurm / "script.txt").read_text().splitlines()
    wanted = ["array=0-1%1", "partition=long", "time=90", "mem=3GB", "cpus-per-task=1", "job-name=ils_lightning"]
    assert [line for line in wanted if f"#SBATCH --{line}" not in script] == []


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray (285 MB installed) is not among the tests' requirements")
def test_a_ray_cluster_gives_the_same_tables(tmp_path: Path, pooled: Path) -> None:
    options = ["num_cpus=1", "include_dashboard=false"]
    assert_same(compare(write(tmp_path, TWO), tmp_path / "out", launcher="ray", launcher_options=options), pooled)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--launcher=submit"], "unknown --launcher 'submit', did you mean 'submitit'?; known: pool, submitit, ray"),
        (["--launcher=submitit"], 'Could not detect "srun"'),
        (["--launcher=submitit", "--launcher_options=cluster=pbs"], "cluster must be slurm or local; given 'pbs'"),
        (["--launcher=submitit", "--launcher_options=cluster=local", "--launcher_options=mem_g=4"], "'mem_g'"),
        (["--launcher_options=cluster=local"], "--launcher pool has no options; given cluster"),
        (["--launcher=submitit", "--launcher_options=local"], "a key and its value"),
        (["--launcher=submitit", "--workers=0"], "--workers must be at least 1; given 0"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compare", write(tmp_path, TWO), f"--folder={tmp_path / 'out'}", *words])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ils_lightning.extras.find_spec", lambda name: None)
    for name, extra in (("submitit", "slurm"), ("ray", "ray")):
        with pytest.raises(
            ValueError, match=rf"--launcher {name} needs {name}: pip install 'ils-lightning\[{extra}\]'"
        ):
            launch(name, tmp_path, None, {})


def test_what_sbatch_refuses_is_shown(tmp_path: Path, slurm: Path) -> None:
    made = array(tmp_path, cluster="slurm", partition="nowhere")
    with pytest.raises(ValueError, match="invalid partition specified: nowhere"):
        list(made.attempts(jobs(tmp_path)))


class Here:
    """An executor that trains at once, in this process; a task knows its answer or its error."""

    def __init__(self) -> None:
        self.submitted: list[str] = []

    def batch(self) -> nullcontext:
        return nullcontext()

    def submit(self, task: slurm_array.Task) -> SimpleNamespace:
        self.submitted.append(task.job.run)
        error = UncompletedJobError("Job (task=0) failed\nout of memory") if task.job.run == "ILS" else None
        answer = {"done": lambda: True, "exception": lambda: error, "result": lambda: {"failed": "as expected"}}
        return SimpleNamespace(**answer, paths=SimpleNamespace(stderr="0_log.err"))


def test_a_task_that_dies_is_named_with_its_log_once_the_others_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = array(tmp_path, workers=2)
    monkeypatch.setattr(made, "executor", Here())
    answers = made.attempts(jobs(tmp_path))
    assert next(answers) == (1, {"failed": "as expected"})
    with pytest.raises(ValueError, match=r"what is finished is kept: ILS, seed 0: out of memory; its log is 0_log.err"):
        next(answers)


def test_a_task_that_slurm_ends_is_submitted_again(tmp_path: Path) -> None:
    (job, *_) = jobs(tmp_path).values()
    again = DelayedSubmission(slurm_array.Task(job))._checkpoint_function()
    assert again is not None
    assert again.function.job is job


def test_what_another_process_trains_is_not_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job, *_) = jobs(tmp_path).values()
    made = array(tmp_path)
    executor = Here()
    monkeypatch.setattr(made, "executor", executor)
    job.folder.mkdir()
    with FileLock(job.folder / "claim"):
        assert list(made.attempts({0: job})) == []
    assert executor.submitted == []
