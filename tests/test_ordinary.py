"""Every verb takes any LightningModule and LightningDataModule; what a verb needs besides is named."""

from pathlib import Path

import pytest
import torch
import yaml

from ils_lightning.cli import main
from ils_lightning.compare import compare

TRAINER = {"max_epochs": 3, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
QUIET = [f"--trainer.{name}={value}".lower() for name, value in TRAINER.items()]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def words(verb: str, model: str = "Router") -> list[str]:
    return [verb, f"--model=ordinary.{model}", "--data=ordinary.Pairs", *QUIET]


def test_the_verbs_of_the_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    main(words("fit"))
    (last,) = Path().rglob("last.ckpt")
    out = capsys.readouterr().out
    assert "optimiser steps" in out
    assert "error" in out
    for verb, shown in (("validate", "error"), ("test", "test_error"), ("predict", "batches of predictions")):
        main([*words(verb), f"--ckpt_path={last}"])
        assert shown in capsys.readouterr().out
    assert torch.load(next(Path().rglob("predictions.pt")), weights_only=True)[0].shape == (64,)


@pytest.mark.slow
def test_a_checkpoint_names_its_model_for_test_and_sample(capsys: pytest.CaptureFixture[str]) -> None:
    main(words("fit", "PosedRouter"))
    (last,) = Path().rglob("last.ckpt")
    main(["test", f"--ckpt_path={last}", *QUIET])
    main(["sample", f"--ckpt_path={last}", "--count=4", "--images=images.pt"])
    assert torch.load("images.pt", weights_only=True).shape == (4, 1, 8, 8)
    main([*words("diagnose", "PosedRouter"), "--estimators=ReinMax", "--estimators=LeaveOneOut", "--draws=100"])
    assert "LeaveOneOut" in capsys.readouterr().out


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    main(words("fit"))
    (last,) = Path().rglob("last.ckpt")
    capsys.readouterr()
    for command, named in (
        (["sample", f"--ckpt_path={last}"], "a method sample(count, generator)"),
        (words("diagnose"), "must have a method problem(batch)"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 2
        assert named in capsys.readouterr().err


def comparison(model: str) -> str:
    base = {"model": {"class_path": f"ordinary.{model}", "init_args": {}}, "data": {"class_path": "ordinary.Pairs"}}
    base |= {"trainer": dict(TRAINER), "seed_everything": 0}
    runs = [{"name": f"lr {lr}", "change": {"model.init_args.lr": lr}} for lr in (0.05, 0.0001)]
    spec = {
        "title": "ordinary",
        "base": base,
        "seeds": [0, 1],
        "runs": runs if model != "Silent" else [{"name": "one"}],
    }
    Path("spec.yaml").write_text(yaml.safe_dump(spec))
    return "spec.yaml"


@pytest.mark.slow
def test_compare_ranks_by_the_training_loss_of_a_model_without_a_curve() -> None:
    compare(comparison("Router"), folder=Path("found"), workers=1)
    results = [torch.load(path, weights_only=True) for path in Path("found").rglob("result.pt")]
    assert len(results) == 4
    assert all(one["tracked"] == ("loss", "training loss") for one in results)
    assert all(one["steps"].tolist() == [2, 4, 6] for one in results)
    assert all({"error", "test_error"} <= set(one["metrics"]) for one in results)


def test_compare_says_at_once_what_a_model_without_losses_lacks() -> None:
    with pytest.raises(ValueError, match=r"a training_step that returns the loss, .* `tracked` .*; Silent has neither"):
        compare(comparison("Silent"), folder=Path("found"), workers=1)
    assert list(Path("found").rglob("result.pt")) == []


def test_a_timer_in_a_configuration_goes_on_counting(capsys: pytest.CaptureFixture[str]) -> None:
    timer = {"class_path": "Timer", "init_args": {"duration": "00:00:10:00"}}
    Path("timer.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [timer]}}))
    main([*words("fit"), "--config=timer.yaml"])
    (first,) = Path().rglob("last.ckpt")
    main(["fit", f"--ckpt_path={first}", "--trainer.max_epochs=4"])
    capsys.readouterr()
    second = max(Path().rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
    spent = [
        torch.load(path, weights_only=True)["callbacks"]["Timer"]["time_elapsed"]["train"] for path in (first, second)
    ]
    assert 0 < spent[0] < spent[1]


def test_a_checkpoint_of_another_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    main(words("fit"))
    (last,) = Path().rglob("last.ckpt")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["test", "--config=vae_digits", f"--ckpt_path={last}", *QUIET])
    assert ended.value.code == 2
    assert "it is of a Router, and this run has a DiscreteVAE" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["--model", "--data", "--trainer.callbacks+=Timer --trainer.callbacks"])
def test_keywords_that_no_option_takes_are_refused(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config=vae_digits", *f"{place}.dict_kwargs.foo=3".split()])
    assert ended.value.code == 2
    assert "takes its own options only, in init_args; given foo" in capsys.readouterr().err
