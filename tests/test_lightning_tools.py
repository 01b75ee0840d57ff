"""Lightning's own tools around the package's models: they work, or end in one line that names them."""

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from examples import EXAMPLES, Example
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.tuner import Tuner
from torch import nn
from torch.utils.data import DataLoader

from ils_lightning.cli import main
from ils_lightning.data import Digits
from ils_lightning.estimators import Estimator, Rebar
from ils_lightning.modules import DiscreteVAE, LatentTree, LearntPrior
from ils_lightning.unprofiled import Unprofiled

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.logger=false", "--trainer.enable_checkpointing=false"]
OFF: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
OFF |= {"enable_model_summary": False, "accelerator": "cpu"}
ADDED = "--trainer.callbacks+="


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Fits a digits VAE for an epoch, expects one line on the standard error and status 2, and returns the line."""
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config=vae_digits", "--trainer.max_epochs=1", *QUIET, *words])
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_the_learning_rate_finder_sets_what_the_run_goes_on_with() -> None:
    finder = LearningRateFinder(num_training_steps=40)
    model = DiscreteVAE(estimator="ReinMax")
    trainer = Trainer(max_epochs=1, callbacks=[finder], **OFF)
    trainer.fit(model, datamodule=Digits())
    found = finder.optimal_lr.suggestion()  # pyright: ignore[reportOptionalMemberAccess]
    assert found != 0.001
    assert model.learning_rate == found
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [found]


def test_a_learning_rate_that_is_set_leaves_groups_that_have_their_own() -> None:
    model = DiscreteVAE(estimator="ReinMax", prior=LearntPrior(lr=0.5), image_shape=[1, 8, 8])
    model.learning_rate = 0.02
    optimizer: Any = model.configure_optimizers()
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.5]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (
            [f"{ADDED}EarlyStopping", "--trainer.callbacks.monitor=val/loss", "--trainer.limit_val_batches=0"],
            "EarlyStopping cannot work here: .* metric `val/loss` which is not available",
        ),
        ([f"{ADDED}BackboneFinetuning"], "BackboneFinetuning cannot work here: .* no attribute 'backbone'"),
        (["--trainer.precision=16-true"], "divides by 0 .* eps = 1e-08: give --model.optimizer.eps 1e-4"),
        (["--model.image_shape=[8,8]"], r"image_shape must be 3 whole numbers .* given \[8, 8\]"),
    ],
)
def test_what_cannot_work_is_one_line(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(named, refusal(words, capsys))


def test_a_package_that_a_callback_lacks_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning.pytorch.callbacks.device_stats_monitor._PSUTIL_AVAILABLE", False)
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config=vae_digits", "--trainer.enable_progress_bar=false", f"{ADDED}DeviceStatsMonitor"])
    assert ended.value.code == 2
    assert "DeviceStatsMonitor cannot work here: `DeviceStatsMonitor` cannot log CPU stats" in capsys.readouterr().err


def test_a_defect_beneath_a_callback_is_no_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Digits, "pixel_mean", property(lambda self: torch.zeros(3)[7]))
    with pytest.raises(IndexError):
        main(["fit", "--config=vae_digits", *QUIET, f"{ADDED}LearningRateFinder"])


@pytest.mark.slow
@pytest.mark.parametrize("config", ["toy1", "vae_digits", "polynomial"])
def test_barebones(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", f"--config={config}", "--trainer.barebones=true", "--trainer.max_steps=200"])
    assert "200" in capsys.readouterr().out
    assert list(Path().rglob("*.ckpt")) == []


@pytest.mark.parametrize(("words", "kind"), [([], Unprofiled), (["--trainer.profiler=simple"], SimpleProfiler)])
def test_a_profiler_is_one_that_was_asked_for(words: list[str], kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[type] = []
    monkeypatch.setattr(Trainer, "fit", lambda trainer, *_, **__: seen.append(type(trainer.profiler)))
    main(["fit", *QUIET, *words])
    assert seen == [kind]


def test_nothing_is_logged_every_zeroth_step() -> None:
    main(["fit", "--config=vae_digits", *QUIET, "--trainer.log_every_n_steps=0", "--trainer.max_epochs=1"])


@pytest.mark.slow
def test_half_precision_trains_where_eps_is_not_zero_in_it() -> None:
    words = ["--trainer.precision=16-true", "--model.optimizer.eps=1e-4", "--trainer.max_epochs=1"]
    main(["fit", "--config=vae_digits", *QUIET, *words])


@pytest.mark.parametrize("size", [[8, 0], [8], [8, 2, 1]])
def test_a_size_without_room_is_refused(size: list[int]) -> None:
    with pytest.raises(ValueError, match="size must be 2 whole numbers of at least 1"):
        LatentTree(estimator="ReinMax", size=size)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_estimator_among_hyperparameters_is_loaded_as_weights_are(example: Example) -> None:
    estimator = example.make()
    estimator.build(3, 2)
    file = io.BytesIO()
    torch.save({"hyper_parameters": {"estimator": estimator}}, file)
    file.seek(0)
    again = torch.load(file, weights_only=True)["hyper_parameters"]["estimator"]
    assert type(again) is type(estimator)
    assert again.state_dict().keys() == estimator.state_dict().keys()


class Own(LightningModule):
    """A user's module that keeps its estimator among its hyperparameters."""

    def __init__(self, estimator: Estimator, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr, self.estimator = lr, estimator
        self.logits = nn.Parameter(torch.zeros(2, 3))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return self.estimator(
            self.logits.expand(len(batch), 2, 3), lambda z: (z[..., 0].sum(-1) - batch).square()
        ).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


@pytest.mark.filterwarnings("ignore:.*is already saved during checkpointing")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_a_module_of_ones_own_with_an_estimator_object(tmp_path: Path) -> None:
    model, data = Own(Rebar()), DataLoader(torch.rand(64), batch_size=8)
    trainer = Trainer(max_epochs=20, **OFF)
    finder: Any = Tuner(trainer).lr_find(model, data, num_training=20)
    assert len(finder.results["lr"]) > 10
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    again = Own.load_from_checkpoint(tmp_path / "own.ckpt", weights_only=True)
    assert isinstance(again.estimator, Rebar)


def test_loading_an_estimator_runs_no_other_code() -> None:
    file = io.BytesIO()
    torch.save({"estimator": Attack()}, file)
    file.seek(0)
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(file, weights_only=True)


class Attack:
    """What a checkpoint must not be able to do."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)
