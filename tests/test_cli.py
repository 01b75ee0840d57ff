"""The command line: defaults, one-line errors, and no silent trap."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import lightning  # noqa: F401 (its loggers exist once it is imported)
import pytest
import torch
import yaml

from ils_lightning import packaged
from ils_lightning.cli import main
from ils_lightning.estimators import ILS
from ils_lightning.modules import CategoricalFit

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fti"], "did you mean 'fit'"),
        (["compare"], "required: file"),
        (["compare", "nothing"], "there is no file 'nothing'"),
        (["compare", "compare/toy1", "--foldr", "x"], "did you mean --folder"),
        (["fit", "--data", "Digits"], "CategoricalFit needs data with true distributions, such as --data SingleDraws"),
        (
            ["fit", "--config", "polynomial", "--data", "Digits"],
            "PolynomialProgramming sees no data: give --data NoData",
        ),
        (["fit", "--config", "estimators/x"], "--config: there is no file 'estimators/x'"),
        (["fit", "--model.estimator", "ISL"], "--model.estimator: unknown class 'ISL', did you mean 'ILS'"),
        (["fit", "--model.estimator", "ISL", "--model.estimator.step_size", "1"], "did you mean 'ILS'"),
        (["fit", "--model.estimater", "ILS"], "CategoricalFit has no option 'estimater', did you mean 'estimator'"),
        (["fit", "--model.estimator", "ILS", "--model.estimator.stepsize", "1"], "did you mean 'step_size'"),
        (["fit", "--model.estimator.step_size", "abc"], "must be a number or a list of numbers; given 'abc'"),
        (["fit", "--model.estimator.normalizer", "summ"], "must be one of sum, clip, simplex, did you mean 'sum'"),
        (["fit", "--model.optimizer", "Adm"], "did you mean 'Adam'"),
        (["fit", "--model.optimizer.lr", "abc"], "--model.optimizer.lr: must be a number"),
        (
            ["fit", "--model.lr_scheduler", "Cooldown"],
            "--model.lr_scheduler: Cooldown needs steps (optimiser steps of the whole training) and cooldown (the last "
            "of them, in which the rate falls): give --model.lr_scheduler.steps ... and --model.lr_scheduler.cooldown",
        ),
        (["fit", "--model.lr_scheduler", "CosineAnnealingLR"], "CosineAnnealingLR needs T_max: give --model.lr_sch"),
        (
            ["fit", "--model.estimator", "Average"],
            "Average needs estimator (the estimator to average): give --model.est",
        ),
        (["fit", "--trainer.callbacks+=EarlyStopping"], "EarlyStopping needs monitor (quantity to be monitored): give"),
        (
            ["fit", "--config", "imagination_cart_pole"],
            "ImaginationActor needs world (last.ckpt of fit --config world_model, or another checkpoint of a World"
            "Model): give --model.world ...",
        ),
        (["fit", "--config", "code_prior_mnist"], "CodePrior needs tokenizer (last.ckpt of fit --config tokenizer_"),
        (["fit", "--model.loss", "ExpectdKL"], "did you mean 'ExpectedKL'"),
        (
            ["fit", "--config", "world_model", "--model.estimator", "Reinforce"],
            "'Reinforce' cannot be used here: it has no draw that can be differentiated",
        ),
        (
            ["fit", "--config", "sudoku", "--model.estimator", "TopKGate"],
            "SudokuSolver needs draws; TopKGate(size=1) draws",
        ),
        (
            ["fit", "--config", "vae_digits", "--model.estimator", "DenseMixer"],
            "DiscreteVAE needs draws; DenseMixer(size=1)",
        ),
        (["fit", "--config", "moe_text", "--model.experts", "1"], "Experts: experts must be at least 2; given 1"),
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
        (["fit", "--config=toy1", "--config={ckpt_path: nothing.ckpt}"], "no file 'nothing.ckpt'"),
        (["fit", "--config=toy1", "--config={trainer: 7}"], "--trainer: must be a mapping"),
        (["fit", "--model.trials=null"], "--model.trials: must be a whole number; given null"),
        (["fit", "--trainer.devices=abc"], "--trainer: no Trainer can be made"),
        (["fit", "--trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches must be at least 1; given 0"),
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


OWN = """
import torch
from lightning import LightningDataModule, LightningModule


class Sorter(LightningModule):
    def training_step(self, batch, batch_idx):
        loss = (self.layer(batch) ** 2).mean()
        self.log("train/loss", loss)
        return loss

    def configure_model(self):
        self.layer = torch.nn.Linear(3, 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Rows(LightningDataModule):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(8, 3), batch_size=2)
"""


@pytest.fixture
def _a_module_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my_sorting.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    sys.modules.pop("my_sorting", None)


@pytest.mark.usefixtures("_a_module_of_ones_own")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--model=my_sorting.Sorted"],
            "'my_sorting.Sorted' cannot be used here: there is nothing of that name, did you mean 'my_sorting.Sorter'?"
            "; known: my_sorting.Sorter",
        ),
        (["--data=my_sorting.Row"], "did you mean 'my_sorting.Rows'?; known: my_sorting.Rows"),
        (["--model.estimator=my_sorting.Sorted"], "--model.estimator: 'my_sorting.Sorted' cannot be used here"),
        (
            ["--model=my_sortin.Sorter"],
            "No module named 'my_sortin' in the present folder or installed, did you mean 'my_sorting'?",
        ),
    ],
)
def test_what_ones_own_module_has_is_told(capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    assert expected in refusal(capsys, "fit", *words)


@pytest.mark.usefixtures("_a_module_of_ones_own")
def test_progress_of_a_model_that_chooses_nothing_for_the_bar_is_what_it_logs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--model=my_sorting.Sorter", "--data=my_sorting.Rows", "--trainer.max_epochs=2", "--trainer.logger=false"]
    main(["fit", *words, "--trainer.accelerator=cpu"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [bool(re.fullmatch(r"step (4|8) of 8: train/loss [\d.e-]+", line)) for line in lines] == [True, True]


@pytest.mark.parametrize("verb", ["fit", "encode"])
def test_help_names_types_as_one_writes_them(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    text = capsys.readouterr().out
    assert "--ckpt_path" in text
    assert "<class" not in text


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n  {verb} " in text for verb in ("fit", "validate", "test", "predict", "compare"))
    (sampling,) = [line for line in text.splitlines() if line.startswith("  sample ")]
    assert "images" in sampling
    assert "texts" in sampling


def test_help_of_estimators_has_the_name_as_the_first_word(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["estimators", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "ils_lightning estimators [NAME] [--" in text
    assert "as in `estimators ReinMax`" in text


@pytest.mark.slow
def test_fit_leaves_logs_settings_pictures_and_two_checkpoints() -> None:
    run = trained()
    assert {"config.yaml", "hparams.yaml", "curve.png", "checkpoints"} <= {path.name for path in run.iterdir()}
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_fit_without_options_is_the_first_toy_problem(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    toy1 = yaml.safe_load((packaged.folder() / "toy1.yaml").read_text())
    assert config["model"]["class_path"].endswith("CategoricalFit")
    assert config["model"]["init_args"]["estimator"]["class_path"].endswith("ILS")
    assert config["trainer"]["max_steps"] == toy1["trainer"]["max_steps"]


@pytest.mark.parametrize("name", ["toy1", "toy1.yaml", "configs/toy1.yaml"])
def test_packaged_configurations_are_found_by_name(capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--config", name, "--model.trials", "7", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["trials"] == 7


def test_packaged_settings_of_an_estimator_are_found_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--model.estimator", "estimators/ils_newton", "--print_config"])
    estimator = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["estimator"]
    assert estimator["class_path"].endswith("ILSNewton")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model.estimator", "estimators/rebr"], "did you mean 'estimators/rebar'?"),
        (["--model.estimator", "missing.yaml"], "no file 'missing.yaml'"),
        (["--config", "estimators/rebar"], "give it as --model.estimator estimators/rebar"),
        (["--config", "compare/toy1"], "run it by: compare compare/toy1"),
    ],
)
def test_a_file_in_the_wrong_place_is_told_where_it_belongs(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refusal(capsys, "fit", *words)


def test_an_estimator_is_changed_by_its_name_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--model.estimator", "ReinMax", "--model.estimator.temperature", "1.3", "--print_config"])
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    assert model["init_args"]["estimator"] == {
        "class_path": "ils_lightning.estimators.ReinMax",
        "init_args": {"temperature": 1.3},
    }
    assert model["init_args"]["loss"]["class_path"].endswith("ExpectedKL")


def test_a_part_named_on_the_command_line_is_taken_from_there_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(
            ["fit", "--model", "CategoricalFit", "--model.estimator", "ILS", "--data", "SingleDraws", "--print_config"]
        )
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["init_args"]["estimator"]["init_args"]["step_size"] == 0.1
    assert config["data"]["class_path"].endswith("SingleDraws")
    assert config["trainer"]["val_check_interval"] == 2


@pytest.mark.parametrize(
    ("model", "steps", "interval"),
    [("CategoricalFit", 50_000, 2), ("ils_lightning.modules.CategoricalFit", 50_000, 2), ("DiscreteVAE", -1, None)],
)
def test_the_length_of_the_default_run_is_for_its_own_model(
    capsys: pytest.CaptureFixture[str], model: str, steps: int, interval: int | None
) -> None:
    data = "Digits" if model == "DiscreteVAE" else "SingleDraws"
    with pytest.raises(SystemExit):
        main(["fit", "--model", model, "--model.estimator", "ReinMax", "--data", data, "--print_config"])
    trainer = yaml.safe_load(capsys.readouterr().out)["trainer"]
    assert (trainer["max_steps"], trainer["val_check_interval"]) == (steps, interval)
    assert trainer["enable_model_summary"] is False


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
@pytest.mark.parametrize("words", [[], ["--ckpt_path", "last"], ["--ckpt_path", "best"]])
def test_untrained_weights_are_never_evaluated(capsys: pytest.CaptureFixture[str], verb: str, words: list[str]) -> None:
    folder = Path("lightning_logs/version_3/checkpoints")
    folder.mkdir(parents=True)
    (folder / "last.ckpt").touch()
    assert str(folder / "last.ckpt") in refusal(capsys, verb, *words)


@pytest.mark.slow
def test_a_file_that_is_no_checkpoint_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.ckpt").write_text("not a checkpoint")
    torch.save({"weights": torch.zeros(3)}, "bare.ckpt")
    torch.save({"state_dict": {}, "hyper_parameters": {"network": torch.nn.GRU(1, 1)}}, "pickled.ckpt")
    assert "is no checkpoint" in refusal(capsys, "test", "--ckpt_path", "text.ckpt")
    assert "has no state_dict" in refusal(capsys, "test", "--ckpt_path", "bare.ckpt")
    assert "weights and plain data" in refusal(capsys, "test", "--ckpt_path", "pickled.ckpt")


@pytest.mark.slow
def test_evaluation_needs_the_checkpoint_alone(capsys: pytest.CaptureFixture[str]) -> None:
    run = trained("--model.categories", "3", "--data.categories", "3", "--data.seed", "5")
    kl = float(torch.load(run / "checkpoints/last.ckpt")["curve"]["values"][-1].mean())
    capsys.readouterr()
    main(["test", "--ckpt_path", str(run / "checkpoints/last.ckpt"), "--trainer.enable_progress_bar", "false"])
    printed = re.search(r"│ kl +│ ([\d.e-]+)", capsys.readouterr().out)
    assert printed is not None
    assert float(printed[1]) == pytest.approx(kl, rel=0.2)
    main(["predict", "--ckpt_path", str(run / "checkpoints/best.ckpt")])


@pytest.mark.slow
def test_what_was_typed_wins_over_the_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    last = str(trained("--model.optimizer.lr", "0.05") / "checkpoints/last.ckpt")
    capsys.readouterr()
    run = trained("--ckpt_path", last, "--trainer.max_steps", "40", "--model.estimator.step_size", "0.7")
    notes = capsys.readouterr().err
    assert "note: model.estimator.step_size = 0.7 as typed; the checkpoint has 0.02" in notes
    assert "learning rate included" in notes
    model = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]
    assert model["estimator"]["init_args"]["step_size"] == 0.7
    assert model["optimizer"]["init_args"]["lr"] == 0.05
    assert torch.load(run / "checkpoints/last.ckpt")["global_step"] == 40


@pytest.mark.slow
def test_what_wins_over_the_checkpoint_is_told_with_the_place_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    last = str(trained("--model.estimator", "ReinMax") / "checkpoints/last.ckpt")
    capsys.readouterr()
    main(["test", "--ckpt_path", last, "--config", "toy1", "--model.optimizer.init_args.lr", "0.07"])
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: model.")]
    assert "note: model.estimator = ILS of --config toy1; the checkpoint has ReinMax" in notes
    assert any(re.match(r"note: model\.optimizer\.lr = 0\.07 as typed; the checkpoint has ", note) for note in notes)


@pytest.mark.slow
def test_a_checkpoint_holds_plain_data_and_loads_as_a_module() -> None:
    last = trained() / "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["configuration"]["data"]["class_path"].endswith("TrueDistribution")
    assert isinstance(CategoricalFit.load_from_checkpoint(last, weights_only=True).estimator, ILS)


def test_a_run_without_a_logger_writes_no_configuration_into_the_current_folder() -> None:
    main(["fit", *QUICK, "--trainer.logger", "false", "--trainer.enable_checkpointing", "false"])
    assert list(Path().iterdir()) == []


def weights(root: str, *words: str) -> dict:
    """Fits a noisy estimator without logger and pictures, and returns the last checkpoint."""
    quiet = ["--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", root]
    main(["fit", *QUICK, "--model.estimator", "GumbelSoftmax", *quiet, *words])
    return torch.load(Path(root, "checkpoints/last.ckpt"), weights_only=True)


@pytest.mark.slow
def test_a_resumed_run_continues_the_same_random_stream() -> None:
    whole = weights("whole", "--trainer.max_steps", "40")
    weights("half")
    rest = weights("rest", "--ckpt_path", "half/checkpoints/last.ckpt", "--trainer.max_steps", "40")
    torch.testing.assert_close(rest["state_dict"]["logits"], whole["state_dict"]["logits"], rtol=0, atol=0)
    torch.testing.assert_close(rest["curve"]["steps"], whole["curve"]["steps"])


@pytest.mark.slow
def test_validating_more_often_does_not_change_the_run() -> None:
    often, rarely = weights("often"), weights("rarely", "--trainer.val_check_interval", "4")
    torch.testing.assert_close(often["state_dict"]["logits"], rarely["state_dict"]["logits"], rtol=0, atol=0)


@pytest.mark.slow
def test_ranks_draw_different_numbers_and_both_streams_are_saved() -> None:
    first, second = weights("ranks", "--trainer.strategy", "ddp_fork", "--trainer.devices", "2")["random_states"]
    assert not torch.equal(first["torch"], second["torch"])


@pytest.mark.slow
def test_predictions_are_saved_where_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    main(["predict", "--ckpt_path", str(trained() / "checkpoints" / "last.ckpt")])
    (path,) = Path().rglob("predictions.pt")
    assert capsys.readouterr().out.endswith(f"1 batch of predictions is in {path}\n")
    (batch,) = torch.load(path, weights_only=True)
    assert set(batch) == {"true", "learnt"}
    torch.testing.assert_close(batch["learnt"].sum(-1), torch.ones(5))


@pytest.mark.parametrize("name", ["Curved", "Sampler", "Estimator"])
def test_an_abstract_class_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(
        r"abstract; name one of its subclasses: .*ILSNewton", refusal(capsys, "fit", "--model.estimator", name)
    )


@pytest.mark.slow
def test_ranks_end_together_with_logs_and_one_report(capfd: pytest.CaptureFixture[str]) -> None:
    ranks = ("--trainer.strategy", "ddp_fork", "--trainer.devices", "2", "--trainer.accelerator", "cpu")
    main(["fit", "--trainer.max_steps", "4", "--model.chunk", "2", "--trainer.enable_progress_bar", "false", *ranks])
    assert capfd.readouterr().out.count("KL / categories") == 1
    assert next(Path("lightning_logs").glob("version_0/curve.png")).stat().st_size > 1000


@pytest.mark.slow
def test_endless_data_without_validation_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        trained("--trainer.val_check_interval", "null")
    assert "validation needs --trainer.val_check_interval" in caplog.text


def test_help_and_unknown_verbs_do_not_import_torch() -> None:
    code = "import sys; from ils_lightning.__main__ import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
