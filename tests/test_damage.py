"""Files of a comparison that are damaged: each is named in one line, is trained again, and holds up no other."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import differences
from test_compare import write

from ils_lightning.checkpoint_io import require_undamaged
from ils_lightning.cli import main
from ils_lightning.compare import compare
from ils_lightning.compare.grid.spec import read
from ils_lightning.compare.training import evaluations as counting
from ils_lightning.compare.training.attempt import attempt
from ils_lightning.compare.training.job import Job, make
from ils_lightning.compare.tuning.journal import storage
from ils_lightning.estimators import GumbelSoftmax

CONTENT: dict[str, Any] = {
    "title": "damaged",
    "base": "toy1",
    "change": {"trainer.max_steps": 40, "model.init_args.chunk": 10, "trainer.val_check_interval": 1},
    "runs": [{"name": name, "change": {"model.init_args.estimator": name}} for name in ("GumbelSoftmax", "Exact")],
}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def fill(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def write_noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 9)


def write_another_object(path: Path) -> None:
    torch.save(["no", "result"], path)


def leave_parts_out(path: Path) -> None:
    found = torch.load(path, weights_only=True)
    torch.save({name: found[name] for name in list(found)[:2]}, path)


def flip_a_bit(path: Path) -> None:
    """In the numbers: the file loads, and what it says is wrong."""
    content = bytearray(path.read_bytes())
    values = max(_numbers(torch.load(path, weights_only=True)), key=len)
    content[content.index(values) + len(values) // 2] ^= 4
    path.write_bytes(bytes(content))
    torch.load(path, weights_only=True)


def _numbers(value: Any) -> list[bytes]:
    if isinstance(value, dict):
        return [one for part in value.values() for one in _numbers(part)]
    return [value.contiguous().numpy().tobytes()] if isinstance(value, torch.Tensor) and value.numel() > 4 else []


DAMAGES = [truncate, fill, empty, write_noise, write_another_object, leave_parts_out, flip_a_bit]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A training that is done."""
    comparison = read(write(folder := tmp_path_factory.mktemp("finished"), CONTENT))
    job = make(comparison, comparison.runs[0], "", 0, {}, folder)
    assert "failed" not in (attempt(job, lambda share: None) or {"failed": 1})
    return job


@pytest.fixture
def job(finished: Job, tmp_path: Path) -> Job:
    """A copy of it."""
    folder = shutil.copytree(finished.folder, tmp_path / "job")
    return Job(finished.run, finished.setting, finished.seed, finished.change, finished.config, folder)


def without_clocks(result: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (result or {}).items() if name not in ("times", "seconds")}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_trained_again(
    damage: Callable[[Path], None], job: Job, finished: Job, capfd: pytest.CaptureFixture[str]
) -> None:
    damage(job.folder / "result.pt")
    assert job.result() is None
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"note: {job.folder / 'result.pt'} cannot be used (")
    assert line.endswith("it is kept as result.pt.damaged, and the training is done again")
    assert differences(without_clocks(attempt(job, lambda share: None)), without_clocks(finished.result())) == []
    assert differences(without_clocks(job.result()), without_clocks(finished.result())) == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_begun_anew(
    damage: Callable[[Path], None], job: Job, finished: Job, capfd: pytest.CaptureFixture[str]
) -> None:
    (job.folder / "result.pt").unlink()
    damage(job.folder / "last.ckpt")
    shares: list[float] = []
    result = attempt(job, shares.append)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"note: {job.folder / 'last.ckpt'} cannot be used (")
    assert line.endswith("it is kept as last.ckpt.damaged, and the training begins anew")
    assert differences(without_clocks(result), without_clocks(finished.result())) == []
    assert sum(shares) == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["result.pt", "last.ckpt"])
def test_a_folder_in_place_of_a_file_is_kept_aside(name: str, job: Job, finished: Job) -> None:
    (job.folder / "result.pt").unlink()
    (job.folder / name).unlink(missing_ok=True)
    (job.folder / name / "mine").mkdir(parents=True)
    assert differences(without_clocks(attempt(job, lambda share: None)), without_clocks(finished.result())) == []
    assert (job.folder / f"{name}.damaged/mine").is_dir()


def test_what_is_kept_aside_is_never_overwritten(job: Job) -> None:
    for content in ("first", "second"):
        (job.folder / "result.pt").write_text(content)
        assert job.result() is None
    kept = [(job.folder / name).read_text() for name in ("result.pt.damaged", "result.pt.damaged1")]
    assert kept == ["first", "second"]


def test_a_folder_in_place_of_a_lock_is_told_and_holds_up_no_other(job: Job) -> None:
    (job.folder / "result.pt").unlink()
    (job.folder / "claim").unlink(missing_ok=True)
    (job.folder / "claim").mkdir()
    result = attempt(job, lambda share: None)
    assert result == {
        "failed": f"cannot read or write {job.folder / 'claim'}: Is a directory. What was saved before stays"
    }


@pytest.mark.slow
def test_folders_in_place_of_parts_of_a_report_hold_up_no_other_part(tmp_path: Path) -> None:
    file = write(tmp_path, CONTENT)
    for name in ("results.csv", "figure.svg"):
        (tmp_path / "out" / name).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"of the report, all is written but .*results.csv: Is a.*figure.svg: Is a"):
        compare(file, tmp_path / "out", workers=1)
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert there >= {"figure.png", "report.html", "table.md", "table.csv", "ranking.md", "tensorboard"}
    for result in (tmp_path / "out/runs").rglob("result.pt"):
        result.unlink()
        (result.parent / "claim").unlink(missing_ok=True)
        (result.parent / "claim").mkdir()
    with pytest.raises(ValueError, match=r"all is written but .*trainings ended in an error.*claim: Is a directory"):
        compare(file, tmp_path / "out", workers=1)


@pytest.mark.slow
def test_a_damaged_file_holds_up_no_other_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, CONTENT)
    compare(file, tmp_path / "out", workers=1)
    table = (tmp_path / "out/figure.svg").read_text()
    for result in (tmp_path / "out/runs").rglob("result.pt"):
        truncate(result)
    compare(file, tmp_path / "out", workers=1)
    assert capfd.readouterr().err.count("note: ") == 2
    assert (tmp_path / "out/figure.svg").read_text() == table


@pytest.mark.slow
def test_a_run_that_breaks_is_reported_and_told_by_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other one is trained, and the report is written."""
    monkeypatch.setattr(counting, "evaluations", lambda model, _: 1 / isinstance(model.estimator, GumbelSoftmax))
    with pytest.raises(SystemExit, match="2"):
        main(["compare", write(tmp_path, CONTENT), f"--folder={tmp_path / 'out'}", "--workers=1"])
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith(
        "error: compare: 1 of the trainings ended in an error; the next start tries again. The first: Exact, seed 0: "
    )
    assert "ZeroDivisionError" in line
    assert (tmp_path / "out/report.html").exists()
    assert "GumbelSoftmax" in output.out


def test_flipped_bits_are_found(job: Job) -> None:
    require_undamaged(job.folder / "last.ckpt")
    flip_a_bit(job.folder / "last.ckpt")
    with pytest.raises(ValueError, match=r"last.ckpt is damaged: data/[0-9]+ is not what was written"):
        require_undamaged(job.folder / "last.ckpt")


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (b"garbage\n", "line 2"),
        (b"[1]\n", "line 2"),
        (b'{"op_code": 4}\n', "KeyError"),
        (b"\xff\n", "line 2"),
    ],
)
def test_a_damaged_journal_is_named(line: bytes, place: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="Optuna is an optional part").create_study(
        storage=storage(tmp_path), study_name="one"
    )
    journal = tmp_path / "journal.log"
    first = journal.read_bytes().splitlines(keepends=True)[0]
    journal.write_bytes(first + line + first)
    with pytest.raises(ValueError, match=f"journal.log is damaged .*{place}.*put back a copy, or move the file away"):
        storage(tmp_path)
