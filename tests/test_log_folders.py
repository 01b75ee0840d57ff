"""Runs that are started together: each has a folder of its own, and one that is refused takes none but its own away."""

from multiprocessing import get_context
from pathlib import Path

import pytest
import yaml
from hostile import attempt
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from ils_lightning.cli import main
from ils_lightning.cli.log_folders import claim
from ils_lightning.describe import create
from ils_lightning.estimators import Estimator

FIT = [
    "fit",
    "--model.chunk=1",
    "--trainer.max_steps=2",
    "--trainer.accelerator=cpu",
    "--trainer.num_sanity_val_steps=0",
]
FIT += ["--trainer.enable_progress_bar=false", "--trainer.val_check_interval=1"]


def loggers(folder: Path) -> list[Logger]:
    return [TensorBoardLogger(folder), CSVLogger(folder), TensorBoardLogger(folder, sub_dir="a/b")]


@pytest.mark.parametrize("kind", range(3), ids=["TensorBoard", "CSV", "TensorBoard with a folder below"])
def test_two_loggers_made_together_have_folders_of_their_own(kind: int, tmp_path: Path) -> None:
    one, other = (loggers(tmp_path)[kind] for _ in range(2))
    name = Path(one.save_dir or "", str(one.name))
    assert [claim(one), claim(other)] == [name / "version_0", name / "version_1"]
    assert (one.version, other.version) == (0, 1)


def test_what_killed_runs_left_half_written_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "lightning_logs/version_3/checkpoints"
    folder.mkdir(parents=True)
    left = [folder / ".best.ckpt.0123abcd.partial", folder.parent / ".curve.png.0123abcd.partial"]
    for file in left:
        file.touch()
    claim(TensorBoardLogger(tmp_path))
    assert not any(file.exists() for file in left)


def test_a_file_of_that_name_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "lightning_logs").mkdir()
    (tmp_path / "lightning_logs/version_0").touch()
    assert claim(TensorBoardLogger(tmp_path)) == tmp_path / "lightning_logs/version_1"


def test_a_folder_that_was_there_is_not_the_runs_own(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, version="mine")
    assert claim(logger) == tmp_path / "lightning_logs/mine"
    assert claim(logger) is None


def _begin(seed: int, folder: Path) -> None:
    attempt([*FIT, f"--seed_everything={seed}"], folder)


@pytest.mark.long
def test_six_fits_started_together_have_six_folders(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    started = [get_context("fork").Process(target=_begin, args=(seed, folder)) for seed in range(6)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    made = sorted((folder / "lightning_logs").iterdir())
    assert [one.name for one in made] == [f"version_{number}" for number in range(6)]
    seeds = {yaml.safe_load((one / "config.yaml").read_text())["seed_everything"] for one in made}
    assert seeds == set(range(6))
    for one in made:
        assert (one / "checkpoints/last.ckpt").exists()
        assert len(list(one.glob("events.out.*"))) == 1


def test_a_refused_run_leaves_the_folder_of_one_that_began_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run takes its folder between the first look at the folders and the refusal."""
    monkeypatch.chdir(tmp_path)
    other = TensorBoardLogger(tmp_path)

    def prepare_data(self: object) -> None:
        Path(claim(other) or "", "precious").touch()
        create("NoEstimator", Estimator)

    monkeypatch.setattr("ils_lightning.data.TrueDistribution.prepare_data", prepare_data)
    with pytest.raises(SystemExit, match="2"):
        main(FIT)
    assert [path.name for path in (tmp_path / "lightning_logs").rglob("*")] == ["version_1", "precious"]
