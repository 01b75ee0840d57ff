"""Law 11: an estimator named on the command line trains."""

import pytest
import torch
from examples import Example, obeying
from lightning import Callback, LightningModule, Trainer

from ils_lightning.cli import main, training
from ils_lightning.modules import CategoricalFit


class Witness(Callback):
    """Keeps what the run started and ended with, in place of the report."""

    seen: list[tuple[CategoricalFit, torch.Tensor, int]]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, CategoricalFit)
        self.before = pl_module.logits.detach().clone()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, CategoricalFit)
        self.seen.append((pl_module, self.before, trainer.global_step))


def one_per_line() -> list:
    """The examples whose class and command-line options differ."""
    lines = {(type(p.values[0].make()), p.values[0].cli): p for p in reversed(obeying("cli"))}
    return list(reversed(lines.values()))


@pytest.mark.slow
@pytest.mark.parametrize("example", one_per_line())
def test_trains_two_steps_when_named(example: Example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # lightning calls an older interface
    monkeypatch.setattr(Witness, "seen", [], raising=False)
    monkeypatch.setattr(training, "FitReport", Witness)
    estimator = example.make()
    sizes = ["--model.categories", "2", "--data.categories", "2"] if estimator.binary else []
    quick = ["--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--model.loss", "RBFEnergy"]
    name = ["--model.estimator", type(estimator).__name__, *example.cli]
    main(["fit", *name, *sizes, *quick, "--trainer.max_steps", "2"])
    ((module, before, steps),) = Witness.seen
    assert type(module.estimator) is type(estimator)
    assert steps == 2
    assert torch.isfinite(module.logits).all()
    assert not torch.equal(module.logits, before)
