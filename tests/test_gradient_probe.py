"""The probe logs what gradient_report measures, takes a bounded share of the time, and disturbs nothing."""

from pathlib import Path

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ils_lightning.callbacks import GradientProbe, RankSeed
from ils_lightning.cli import main
from ils_lightning.data import Digits
from ils_lightning.diagnose.problems import problem_of
from ils_lightning.estimators import Estimator, ILSNewton, MovingAverage, Reinforce
from ils_lightning.modules import DiscreteVAE, HierarchicalVAE
from ils_lightning.modules.base import Problem


class Router(LightningModule):
    """A LightningModule that knows nothing of this package but `Problem`, with dropout and batch normalisation."""

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.estimator = estimator
        self.router = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))
        self.experts = nn.Linear(4, 3)

    def problem(self, batch):
        x, y = batch
        answers = self.experts(x)
        return Problem(self.router(x).unsqueeze(-2), lambda z: ((z[..., 0, :] * answers).sum(-1) - y).square())

    def training_step(self, batch):
        logits, f, _ = self.problem(batch)
        loss = self.estimator(logits, f).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Rows(LightningDataModule):
    def train_dataloader(self):
        x = torch.randn(256, 4)
        return DataLoader(TensorDataset(x, x[:, 0]), batch_size=64, shuffle=True)


def fit(make, data, folder: Path, probe: GradientProbe | None, steps: int = 30, **options) -> dict[str, torch.Tensor]:
    """The state after training."""
    seed_everything(0)
    callbacks = [RankSeed(), *([probe] if probe else [])]
    logger = CSVLogger(folder, name="with" if probe else "without")
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(
        max_steps=steps, logger=logger, callbacks=callbacks, accelerator="cpu", log_every_n_steps=1, **quiet, **options
    )
    model = make()
    trainer.fit(model, datamodule=data())
    return model.state_dict()


MODELS = {
    "router": (lambda: Router(ILSNewton()), Rows),
    "baseline": (lambda: Router(Reinforce(baseline=MovingAverage())), Rows),
    "vae": (lambda: DiscreteVAE(estimator=ILSNewton(), latents=3), Digits),
    "hierarchical": (lambda: HierarchicalVAE(estimator=ILSNewton(), latents=[3, 2]), Digits),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
@pytest.mark.filterwarnings("ignore:.*The number of training batches:UserWarning")
@pytest.mark.filterwarnings("ignore:.*val_dataloader:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Deprecat:Warning")
@pytest.mark.parametrize("name", MODELS)
def test_the_weights_at_the_end_are_the_same_bits(name, tmp_path):
    make, data = MODELS[name]
    probe = GradientProbe(every=5, rivals=["LeaveOneOut", "ILSCV", "Rebar"], draws=64, rows=4, share=1.0)
    plain, probed = fit(make, data, tmp_path, None), fit(make, data, tmp_path, probe)
    assert plain.keys() == probed.keys()
    assert all(torch.equal(plain[key], probed[key]) for key in plain)
    lines = (tmp_path / "with" / "version_0" / "metrics.csv").read_text().splitlines()
    assert "gradient/LeaveOneOut/bias" in lines[0]
    assert "gradient/ILSNewton/snr" in lines[0] or name == "baseline"


class Rivals(Router):
    """A router whose loss of a row is relative to the batch."""

    def problem(self, batch):
        logits, f, own = super().problem(batch)
        return Problem(logits, lambda z: f(z) - f(z).mean(dim=1, keepdim=True).detach() / 2, own)


@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
@pytest.mark.filterwarnings("ignore:.*The number of training batches:UserWarning")
@pytest.mark.filterwarnings("ignore:.*val_dataloader:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Deprecat:Warning")
def test_rows_judged_by_each_other_are_named_once_and_training_goes_on(tmp_path, caplog):
    runs = [
        fit(lambda: Rivals(ILSNewton()), Rows, tmp_path, probe, steps=10)
        for probe in (None, GradientProbe(every=2, share=1.0))
    ]
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])
    notes = [record.message for record in caplog.records if "GradientProbe measures nothing" in record.message]
    assert len(notes) == 1
    assert "judges each row by itself" in notes[0]
    lines = (tmp_path / "with" / "version_0" / "metrics.csv").read_text().splitlines()
    assert len(lines) == 11
    assert "gradient/" not in lines[0]


@pytest.mark.slow
def test_it_is_named_in_a_configuration_and_writes_to_tensorboard(tmp_path):
    config = tmp_path / "probe.yaml"
    config.write_text(
        "trainer: {callbacks: [{class_path: GradientProbe, init_args: {every: 10, rivals: [ReinMax], share: 1.0}}]}"
    )
    words = ["--config=vae_digits", f"--config={config}", "--trainer.max_steps=25"]
    main(["fit", *words, f"--trainer.default_root_dir={tmp_path}", "--trainer.enable_progress_bar=false"])
    events = EventAccumulator(str(next(tmp_path.rglob("version_0")))).Reload()
    points = {name: events.Scalars(f"DiscreteVAE-gradient/{name}/cosine") for name in ("ILSNewton", "ReinMax")}
    assert [[point.step for point in found] for found in points.values()] == [[0, 10, 20, 25]] * 2, (
        "the last is what came out"
    )
    assert all(0.5 < point.value <= 1 for found in points.values() for point in found)


def test_a_measurement_that_would_take_more_than_its_share_is_left_out(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr("ils_lightning.callbacks.gradient_probe.time.perf_counter", lambda: Clock.now)
    measured = []

    def measure(self, trainer, module):
        measured.append(trainer.global_step)
        Clock.now += 10.0

    monkeypatch.setattr(GradientProbe, "_measure", measure)
    probe = GradientProbe(every=10, share=0.1)

    class Run:
        global_step = 0

        class strategy:  # noqa: N801
            broadcast = staticmethod(lambda value: value)

    probe.on_train_start(Run, None)
    for step in range(1000):
        Run.global_step = step
        probe.on_train_batch_start(Run, None, torch.zeros(1), step)
        Clock.now += 1.0
    assert measured[0] == 0
    assert all(10 * place <= 0.1 * (step + 10 * place) for place, step in enumerate(measured))
    assert len(measured) >= 10


@pytest.mark.slow
def test_the_fewest_draws_that_are_taken_are_enough(tmp_path):
    words = ["fit", "--config=vae_digits", "--trainer.max_steps=2", "--trainer.limit_val_batches=1"]
    words += ["--trainer.callbacks+=GradientProbe", "--trainer.callbacks.draws=32", "--trainer.limit_test_batches=1"]
    main([*words, f"--trainer.default_root_dir={tmp_path}", "--trainer.enable_progress_bar=false"])
    events = EventAccumulator(str(next(tmp_path.rglob("version_0")))).Reload()
    assert any("gradient/" in tag for tag in events.Tags()["scalars"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be at least 1; given 0"),
        ({"every": 0, "rows": -1}, "every and rows must be at least 1; given 0 and -1"),
        ({"draws": 5}, "draws must be at least 32; given 5"),
        ({"share": 0.0}, "share must be above 0 and at most 1; given 0.0"),
        ({"share": 1.5}, "share must be above 0 and at most 1; given 1.5"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^GradientProbe: {message}$"):
        GradientProbe(**options)


def test_a_model_without_a_problem_is_named():
    with (
        pytest.raises(
            ValueError, match=r"must have a method problem\(batch\).* Linear has none\. .*problem_of_draw\(lambda"
        ),
        problem_of(nn.Linear(2, 2), None),
    ):
        pass
