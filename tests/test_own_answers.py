"""What models of one's own answer and checkpoints hold: used where it is what was asked for, else one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning import LightningDataModule
from matplotlib.figure import Figure
from ordinary import PosedRouter, Router
from torch.utils.data import DataLoader

from ils_lightning.cli import main
from ils_lightning.compare import compare

FIT = ["fit", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
X = torch.arange(64.0).reshape(16, 4)


class Rows(LightningDataModule):
    """Training rows alone, of four numbers, as `Router` has them."""

    def train_dataloader(self) -> Any:
        return DataLoader(list(zip(X, X[:, 0], strict=True)), batch_size=8)


class Batches(LightningDataModule):
    def train_dataloader(self) -> Any:
        return DataLoader(X.reshape(2, 8, 4), batch_size=None)  # pyright: ignore[reportArgumentType]


class Codes(Router):
    """A router whose codes are whatever a test says."""

    answer: Any = staticmethod(lambda x: (x > 3).long())

    def encode(self, x: Any) -> Any:
        return self.answer(x)


class WithData(Router):
    def train_dataloader(self) -> Any:
        return DataLoader(list(zip(X, X[:, 0], strict=True)), batch_size=8)


class Shown(Router):
    """What it shows has names that are no names of files."""

    def figures(self) -> dict[str, Figure]:
        return {"train/samples": Figure(), "../../outside": Figure()}


class OtherMeaning(Router):
    """Methods that have the names of what is shown, and are something else."""

    def figures(self, batch: Any) -> Any:
        return batch

    def histograms(self) -> None:
        return None

    def summary(self, depth: int) -> str:
        return str(depth)


class Mark:
    """An object of a class that torch does not load unless told to."""


class Marked(Router):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["mark"] = Mark()


class Images(PosedRouter):
    def sample(self, count: int, generator: Any = None) -> Any:
        return torch.rand(1, 1, 8, 8)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fit(model: str, data: str = "ordinary.Pairs", *more: str) -> Path:
    main([*FIT, f"--model={model}", f"--data={data}", *more])
    return max(Path().rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def encode(data: str) -> list[str]:
    last = fit("test_own_answers.Codes")
    return ["encode", "--model=test_own_answers.Codes", f"--data={data}", "--output=codes.pt", f"--ckpt_path={last}"]


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        (lambda x: x / 3, "float32 [8, 4]"),
        (lambda x: (x > 3).long()[:1], "int64 [1, 4]"),
        (lambda x: None, "NoneType"),
        (lambda x: (x.long(), x), "tuple"),
    ],
)
def test_codes_that_are_none(answer: Any, given: str, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(Codes, "answer", staticmethod(answer))
    line = refused(encode("test_own_answers.Rows"), capsys)
    assert "Codes.encode(x) must return codes [8, latents] of whole numbers" in line
    assert line.endswith(f"given {given}")
    assert not Path("codes.pt").exists()


@pytest.mark.parametrize("data", ["Rows", "Batches"])
def test_codes_of_data_that_have_training_rows_alone(data: str) -> None:
    main(encode(f"test_own_answers.{data}"))
    found = torch.load("codes.pt", weights_only=True)
    assert found["codes"].equal((X > 3).long())
    assert found["split"] == ["train"] * 16


def test_data_of_the_model_itself_are_not_left_aside(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused([*FIT, "--model=test_own_answers.WithData"], capsys)
    assert "WithData has a train_dataloader of its own" in line


def test_figures_are_files_of_the_run_whatever_they_are_called() -> None:
    folder = fit("test_own_answers.Shown").parents[1]
    assert sorted(path.name for path in folder.glob("*.png")) == ["outside.png", "train-samples.png"]
    assert [path for path in Path().rglob("*.png") if folder not in path.parents] == []


def test_methods_of_another_meaning_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    fit("test_own_answers.OtherMeaning")
    assert "optimiser steps" in capsys.readouterr().out


def test_an_object_that_is_no_plain_data_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    last = fit("test_own_answers.Marked")
    line = refused(["test", "--model=test_own_answers.Marked", "--data=ordinary.Pairs", f"--ckpt_path={last}"], capsys)
    assert "it holds a test_own_answers.Mark. If that is yours, let test_own_answers call" in line
    torch.serialization.add_safe_globals([Mark])
    try:
        main([*FIT, "--model=test_own_answers.Marked", "--data=ordinary.Pairs", f"--ckpt_path={last}"])
    finally:
        torch.serialization.clear_safe_globals()


def test_images_of_another_number_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    last = fit("test_own_answers.Images")
    line = refused(["sample", f"--ckpt_path={last}", "--count=4", "--own=test_own_answers.Images"], capsys)
    assert "Images.sample(4) must return images [4, channels, height, width]; given [1, 1, 8, 8]" in line


def changed(path: Path, change: Any) -> str:
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, "changed.ckpt")
    return "--ckpt_path=changed.ckpt"


def worthless(checkpoint: dict[str, Any]) -> None:
    for weights in checkpoint["state_dict"].values():
        weights.mul_(float("nan")) if weights.is_floating_point() else None


@pytest.mark.slow
def test_weights_that_are_no_numbers_measure_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    last = fit("DiscreteVAE", "Digits", "--model.estimator=ReinMax")
    option = changed(last, worthless)
    for verb in ("test", "validate", "predict", "encode", "sample"):
        line = refused([verb, option], capsys)
        assert "the weights of this DiscreteVAE are not finite: encoder." in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.pop("loops"), "no loops.fit_loop"),
        (lambda one: one.update(loops=None), "no loops.fit_loop"),
        (lambda one: one.pop("epoch"), "epoch must be a whole number of at least 0; given None"),
        (lambda one: one.update(global_step=-5), "global_step must be a whole number of at least 0; given -5"),
        (lambda one: one.update(global_step="7"), "global_step must be a whole number of at least 0; given '7'"),
    ],
)
def test_no_fit_goes_on_from_a_checkpoint_that_does_not_say_where(change: Any, said: str, capsys: Any) -> None:
    last = fit("ordinary.Router")
    words = [*FIT, "--model=ordinary.Router", "--data=ordinary.Pairs", "--trainer.max_epochs=3"]
    assert said in refused([*words, changed(last, change)], capsys)


@pytest.mark.slow
def test_a_version_that_is_none_is_no_reason_to_fail() -> None:
    last = fit("DiscreteVAE", "Digits", "--model.estimator=ReinMax")
    main(["test", changed(last, lambda one: one.update(ils_lightning_version=[1]))])


@pytest.mark.parametrize(
    "option",
    ["--model.latents", "--model.categories", "--model.encoder.hidden", "--model.draws", "--model.estimator.ridge"],
)
def test_sizes_that_nothing_has_room_for(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    number = "99999999999999999999"
    value = f"[{number}]" if option.endswith("hidden") else number
    line = refused([*FIT, "--config=vae_digits", f"{option}={value}"], capsys)
    assert any(word in line for word in ("memory", "at most", "ridge must be"))


def test_a_learning_rate_that_is_no_number_is_at_fault_itself(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["fit", "--model.optimizer.lr=.inf"], capsys)
    assert line.endswith("model.optimizer: lr must be finite; given inf")


def test_a_key_that_stands_twice_and_one_that_no_path_can_hold(capsys: pytest.CaptureFixture[str]) -> None:
    Path("twice.yaml").write_text("trainer: {max_epochs: 1}\ntrainer: {max_epochs: 2}\n")
    assert "the key 'trainer' stands twice" in refused(["fit", "--config=twice.yaml"], capsys)
    Path("nul.yaml").write_text('trainer: {default_root_dir: "a\\0b"}\n')
    assert "NUL" in refused(["fit", "--config=vae_digits", "--config=nul.yaml"], capsys)


def make_optimizer(parameters: Any, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr)


@pytest.mark.parametrize("part", ["model", "data"])
def test_a_function_in_place_of_a_class(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "make_optimizer" in refused([*FIT, f"--{part}=test_own_answers.make_optimizer"], capsys)


@pytest.mark.slow
def test_results_and_names_of_runs_that_do_not_fit(tmp_path: Path) -> None:
    content = {
        "title": "own",
        "base": "toy1",
        "change": {"trainer.max_steps": 5, "trainer.max_epochs": 1},
        "seeds": [0],
        "runs": [
            {"name": name, "change": {"model.init_args.estimator": {"class_path": "ReinMax"}}}
            for name in ("a", "y" * 300, "y" * 300 + "z")
        ],
    }
    Path("own.yaml").write_text(yaml.safe_dump(content))
    folder = compare("own.yaml", tmp_path / "out", workers=1)
    results = sorted(folder.glob("runs/*/result.pt"))
    assert len(results) == 3
    for change in ({"values": "x"}, {"seconds": "[red]"}, {"steps": torch.zeros(1)}, {"tracked": None}):
        torch.save(torch.load(results[0], weights_only=True) | change, results[0])
        compare("own.yaml", tmp_path / "out", workers=1)
        assert results[0].with_name("result.pt.damaged").exists()
        results[0].with_name("result.pt.damaged").unlink()
