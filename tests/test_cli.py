"""The command line: defaults, one-line errors, and no silent trap."""

import logging
from pathlib import Path

import lightning  # noqa: F401 (its loggers exist once it is imported)
import pytest
import torch

from ils_lightning.cli import main

QUICK = ["--trainer.max_steps", "20", "--model.chunk", "5", "--model.record_every", "1"]
QUICK += ["--trainer.val_check_interval", "1", "--trainer.accelerator", "cpu"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    for name in ("lightning", "lightning.fabric", "lightning.pytorch"):  # handlers hold on to a stream that is gone
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Runs a command that must be refused: one line, exit status 2."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def trained(*words: str) -> Path:
    """Fits briefly and returns the run's folder."""
    main(["fit", *QUICK, *words])
    return max(Path("lightning_logs").iterdir(), key=lambda path: int(path.name.split("_")[1]))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fti"], "did you mean 'fit'"),
        (["fit", "--model.estimator", "ISL"], "--model.estimator: unknown class 'ISL', did you mean 'ILS'"),
        (["fit", "--model.estimator", "ISL", "--model.estimator.step_size", "1"], "did you mean 'ILS'"),
        (["fit", "--model.estimater", "ILS"], "CategoricalFit has no option 'estimater', did you mean 'estimator'"),
        (["fit", "--model.estimator", "ILS", "--model.estimator.stepsize", "1"], "did you mean 'step_size'"),
        (["fit", "--model.estimator.step_size", "abc"], "must be a number or a list of numbers; given 'abc'"),
        (["fit", "--model.estimator.normalizer", "summ"], "must be one of sum, clip, simplex, did you mean 'sum'"),
        (["fit", "--model.optimizer", "Adm"], "did you mean 'Adam'"),
        (["fit", "--model.optimizer.lr", "abc"], "--model.optimizer.lr: must be a number"),
        (["fit", "--model.loss", "ExpectdKL"], "did you mean 'ExpectedKL'"),
        (["fit", "--model", "CategoricalFti"], "did you mean 'CategoricalFit'"),
        (["fit", "--data", "SingleDraw"], "did you mean 'SingleDraws'"),
        (["fit", "--data.trial", "3"], "did you mean 'trials'"),
        (["fit", "--trainer.max_steps", "abc"], "--trainer.max_steps: must be a whole number; given 'abc'"),
        (["fit", "--trainer.maxsteps", "3"], "did you mean --trainer.max_steps"),
        (["fit", "--max_steps", "3"], "did you mean --trainer.max_steps"),
        (["fit", "--trainer.logger", "TensorbordLogger"], "did you mean 'TensorBoardLogger'"),
        (["fit", "--trainer.accelerator", "abacus"], "Available names are"),
        (["fit", "extra"], "unexpected word 'extra'"),
        (["fit", "--trainer.max_steps"], "--trainer.max_steps needs a value"),
        (["fit", "--config", "toy2"], "did you mean 'toy1'"),
        (["fit", "--config", "configs/nothing.yaml"], "no file 'configs/nothing.yaml'"),
        (["fit", "--ckpt_path", "nothing.ckpt"], "no file 'nothing.ckpt'"),
        (["fit", "--model.estimator", "ReinMax", "--model.estimator.temperature", "-1"], "must be greater than 0"),
        (["fit", "--model.trials", "0"], "must be at least 1"),
        (["fit", "--model.categories", "3", "--trainer.logger", "false"], "model and data must have the same"),
    ],
)
def test_a_mistake_gets_one_line_that_names_what_is_allowed(
    capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert expected in refusal(capsys, *words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: [", "is not readable as YAML"),
        ("- 1", "must hold a mapping"),
        ("modle: {class_path: CategoricalFit}", "did you mean --model"),
        ("model: {class_path: CategoricalFit, init_args: {trails: 3}}", "did you mean 'trials'"),
    ],
)
def test_a_mistake_in_a_file_gets_one_line(capsys: pytest.CaptureFixture[str], text: str, expected: str) -> None:
    Path("run.yaml").write_text(text)
    assert expected in refusal(capsys, "fit", "--config", "run.yaml")


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n  {verb} " in text for verb in ("fit", "validate", "test", "predict"))
