"""A run on NaN stops, or leaves the step out; what was saved stays."""

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ils_lightning.callbacks import FiniteGuard
from ils_lightning.estimators import ReinMax


class Tiny(LightningModule):
    """One weight; the loss, or its slope alone, breaks at batch 3."""

    def __init__(self, broken: str) -> None:
        super().__init__()
        self.weight, self.broken, self.estimator = nn.Parameter(torch.ones(1)), broken, ReinMax()
        self.seen: list[float] = []

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        self.seen.append(self.weight.item())
        loss = (self.weight * batch.mean()).sum()
        if index == 3:
            loss = loss * float("nan") if self.broken == "loss" else loss + (self.weight * 0).sqrt().sum()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


def fit(module: LightningModule, guard: FiniteGuard) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, callbacks=[guard], **quiet)
    trainer.fit(module, DataLoader(torch.ones(6, 2), generator=torch.Generator()))
    return trainer


@pytest.mark.parametrize("broken", ["loss", "slope"])
def test_the_run_stops_with_step_quantity_and_estimator(broken: str) -> None:
    module = Tiny(broken)
    with pytest.raises(ValueError, match=r"optimiser step 3 the loss is .*not finite: weight.*estimator ReinMax\(\)"):
        fit(module, FiniteGuard())
    assert torch.isfinite(module.weight).all()


@pytest.mark.parametrize("broken", ["loss", "slope"])
def test_the_step_is_left_out_and_counted(broken: str) -> None:
    module, guard = Tiny(broken), FiniteGuard(action="skip")
    trainer = fit(module, guard)
    assert guard.skipped == 1
    assert trainer.callback_metrics["train/skipped_steps"] == 1
    assert module.seen[4] == module.seen[3] != module.seen[5]


def test_without_the_guard_the_weight_is_lost() -> None:
    module = Tiny("loss")
    guard = FiniteGuard()
    guard.on_before_backward = lambda *_: None  # type: ignore[method-assign]
    fit(module, guard)
    assert torch.isnan(module.weight).all()


class ByItself(Tiny):
    """Optimises by itself, and loses its weight at batch 3."""

    automatic_optimization = False  # type: ignore[assignment]

    def training_step(self, batch: Tensor, index: int) -> None:
        with torch.no_grad():
            self.weight.mul_(float("inf") if index == 3 else 2)


def test_a_module_that_optimises_by_itself_is_looked_at_after_each_step() -> None:
    module = ByItself("loss")
    with pytest.raises(ValueError, match=r"parameters are not finite \(not finite: weight\)"):
        fit(module, FiniteGuard())
    assert module.weight.isinf().all()


def test_another_action_is_refused() -> None:
    with pytest.raises(ValueError, match="'stop' or 'skip'; given 'warn'"):
        FiniteGuard(action="warn")  # type: ignore[arg-type]
