"""Schedules of estimator options: their values, how the callback sets, logs and resumes them, and its errors."""

import csv
import math

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from ils_lightning.callbacks import Constant, Cosine, Exponential, HalfLife, Linear, Milestones, OptionSchedule
from ils_lightning.estimators import (
    ILS,
    Average,
    EntmaxMarginal,
    Estimator,
    Exact,
    ILSNewton,
    LeaveOneOut,
    MinimumVariance,
    Rebar,
    StraightThrough,
)

torch.set_num_threads(1)


class Tiny(LightningModule):
    """One row of logits; notes the temperature, or another option, that it trained with."""

    def __init__(self, estimator: Estimator, batches: int = 100, noted: str = "temperature"):
        super().__init__()
        self.noted = noted
        self.estimator = estimator
        self.logits = nn.Parameter(torch.zeros(1, 2, 3))
        self.batches, self.seen = batches, []

    def training_step(self, batch, batch_idx):
        self.seen.append(getattr(self.estimator, self.noted, None))
        return self.estimator(self.logits, lambda z: z[..., 0].sum(-1)).mean()

    def train_dataloader(self):
        return DataLoader(torch.zeros(self.batches, 1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(tmp_path, *callbacks, steps=6, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "logger": False}
    quiet |= {"enable_checkpointing": False, "default_root_dir": tmp_path}
    return Trainer(max_steps=steps, callbacks=list(callbacks), **(quiet | options))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(0.3), [0.3, 0.3, 0.3, 0.3]),
        (Linear(1.0, 2.0, steps=4), [1.0, 1.25, 2.0, 2.0]),
        (Exponential(1.0, 1e-4, steps=4), [1.0, 0.1, 1e-4, 1e-4]),
        (Cosine(3.0, 1.0, steps=4), [3.0, 2 + math.sqrt(0.5), 1.0, 1.0]),
        (Milestones(1.0, [2.0, 5.0], steps=[4, 10]), [1.0, 1.0, 2.0, 5.0]),
        (HalfLife(9.0, half_life=4, end=1.0), [9.0, 1 + 8 * 0.5**0.25, 5.0, 2.0]),
    ],
)
def test_values_at_steps_0_1_4_12(schedule, expected):
    assert [schedule(step) for step in (0, 1, 4, 12)] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Linear(1.0, 0.0, steps=0), "Linear: steps must be at least 1; given 0"),
        (lambda: Exponential(1.0, 0.0, steps=5), "Exponential: start and end must be positive; given 1.0 and 0.0"),
        (lambda: Milestones(1, [4], steps=[]), r"values and steps must be as many, one or more; given \[4\] and \[\]"),
        (lambda: Milestones(1, [4, 8], steps=[9, 9]), r"each greater than the one before; given \[9, 9\]"),
        (lambda: Milestones(1, [4], steps=[0]), r"steps must be at least 1, .*; given \[0\]"),
        (lambda: HalfLife(1.0, half_life=0), "HalfLife: half_life must be positive; given 0"),
    ],
)
def test_impossible_schedules_are_refused(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()


@pytest.mark.parametrize("option", ["temperature", "estimator.temperature"])
def test_every_step_trains_with_the_value_of_its_step(tmp_path, option):
    model, schedule = Tiny(StraightThrough()), Linear(1.0, 2.0, steps=4)
    trainer(tmp_path, OptionSchedule(option, schedule)).fit(model)
    assert model.seen == [schedule(step) for step in range(6)]


def test_steps_are_optimiser_steps(tmp_path):
    model, schedule = Tiny(StraightThrough()), Linear(1.0, 2.0, steps=4)
    trainer(tmp_path, OptionSchedule("temperature", schedule), steps=3, accumulate_grad_batches=2).fit(model)
    assert model.seen == [schedule(step) for step in (0, 0, 1, 1, 2, 2)]


def test_two_schedules_reach_two_options_and_nested_estimators(tmp_path):
    model = Tiny(Average(ILS(step_size=0.1), samples=2))
    model.other = StraightThrough()
    step_size = OptionSchedule("estimator.estimator.step_size", Linear(0.1, 0.5, steps=5))
    trainer(tmp_path, step_size, OptionSchedule("other.temperature", Constant(0.7))).fit(model)
    assert model.estimator.estimator.step_size == 0.5
    assert model.other.temperature == 0.7


def test_a_whole_number_follows_its_schedule_rounded(tmp_path):
    model, schedule = Tiny(Average(StraightThrough(), samples=7), noted="samples"), Linear(1.0, 4.0, steps=5)
    trainer(tmp_path, OptionSchedule("samples", schedule)).fit(model)
    assert model.seen == [1, 2, 2, 3, 3, 4]


def test_values_are_logged_at_the_trainers_interval(tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    schedule = OptionSchedule("temperature", Linear(1.0, 2.0, steps=10))
    trainer(tmp_path, schedule, steps=7, logger=logger, log_every_n_steps=3).fit(Tiny(StraightThrough()))
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = [(int(row["step"]), float(row["option/temperature"])) for row in csv.DictReader(file)]
    assert rows == [(0, 1.0), (3, pytest.approx(1.3)), (6, pytest.approx(1.6))]


def test_a_resumed_run_continues_exactly(tmp_path):
    schedule = HalfLife(2.0, half_life=3, end=0.1)
    whole, first, second = (Tiny(StraightThrough(), batches=3) for _ in range(3))
    trainer(tmp_path, OptionSchedule("temperature", schedule)).fit(whole)
    start = trainer(tmp_path, OptionSchedule("temperature", schedule), steps=3)
    start.fit(first)
    start.save_checkpoint(tmp_path / "half.ckpt")
    trainer(tmp_path, OptionSchedule("temperature", schedule)).fit(second, ckpt_path=tmp_path / "half.ckpt")
    assert first.seen + second.seen == whole.seen


@pytest.mark.parametrize(
    ("estimator", "option", "rule"),
    [
        (StraightThrough(), "temprature", "no option 'temprature', did you mean 'temperature'.* It has: temperature"),
        (Average(StraightThrough()), "temperature", "did you mean 'estimator.estimator.temperature'"),
        (StraightThrough(), "gap", "no option 'gap'. It has: temperature"),
        (LeaveOneOut(), "samples", "'samples' of LeaveOneOut is fixed for a whole run"),
        (Rebar(), "eta", "'eta' of Rebar is learnt in training"),
        (Average(StraightThrough()), "sample", "did you mean 'samples'"),
        (Exact(), "temperature", "its estimators have no numeric options"),
        (StraightThrough([1.0]), "temperature", "holds one value per row"),
    ],
)
def test_a_wrong_option_is_an_error_that_helps(tmp_path, estimator, option, rule):
    with pytest.raises(ValueError, match=rule):
        trainer(tmp_path, OptionSchedule(option, Constant(1.0))).fit(Tiny(estimator))


def test_values_obey_the_options_own_rule(tmp_path):
    with pytest.raises(ValueError, match="StraightThrough: temperature must be greater than 0 and finite; given 0"):
        trainer(tmp_path, OptionSchedule("temperature", Linear(1.0, 0.0, steps=3))).fit(Tiny(StraightThrough()))


def test_what_an_estimator_is_exact_for_follows_its_temperature():
    estimator = StraightThrough()
    assert estimator.exact_for == "linear"
    estimator.option("temperature", 0.5)
    assert estimator.exact_for == "none"


def test_short_names_work_in_yaml(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["fit"])
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # lightning calls an older interface
    config = tmp_path / "config.yaml"
    config.write_text(f"""
model: {{estimator: {{class_path: StraightThrough, init_args: {{temperature: 3.0}}}}}}
trainer:
  max_steps: 3
  accelerator: cpu
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  default_root_dir: {tmp_path}
  callbacks:
    - class_path: OptionSchedule
      init_args:
        option: temperature
        schedule: {{class_path: Linear, init_args: {{start: 1.0, end: 2.0, steps: 2}}}}
""")
    cli = LightningCLI(Tiny, args=["fit", f"--config={config}"], save_config_callback=None, seed_everything_default=0)
    assert cli.model.seen == [1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    ("make", "option", "value"),
    [
        (MinimumVariance, "penalty", 10.0),
        (ILSNewton, "ridge", 0.1),
        (EntmaxMarginal, "alpha", 1.7),
        (ILSNewton, "base", 0.0),
    ],
)
def test_options_with_a_range_of_their_own_can_be_scheduled(make, option, value):
    model = nn.Module()
    model.estimator = make()
    OptionSchedule(option, Constant(value))._set(model, step=0)
    assert getattr(model.estimator, option) == value


def test_exactness_follows_a_scheduled_penalty():
    estimator = MinimumVariance()
    assert estimator.exact_for == "quadratic"
    estimator.option("penalty", 1.0, *estimator.ranges["penalty"])
    assert estimator.exact_for == "linear"
