"""Networks are there before callbacks and strategies look at them, and trained weights find their way back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, LambdaCallback, ModelPruning, StochasticWeightAveraging
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.optim import Adam
from torchmetrics import Metric

from ils_lightning.data import Digits, ListOps, Springs, Sudoku
from ils_lightning.estimators import NetworkBaseline, Reinforce
from ils_lightning.modules import (
    DiscreteModule,
    DiscreteVAE,
    HardAttention,
    HierarchicalVAE,
    LatentTree,
    RelationalInference,
    SudokuSolver,
)

SMALL = {"train": 400, "validation": 50, "test": 50, "longest": 12}
MODELS: dict[type, tuple[Any, int]] = {
    DiscreteVAE: (Digits, 24_928),
    HierarchicalVAE: (Digits, 37_520),
    HardAttention: (lambda: Digits(binarize="none"), 18_266),
    LatentTree: (lambda: ListOps(**SMALL), 28_685),
    RelationalInference: (lambda: Springs(train=64, validation=32, test=32), 52_230),
    SudokuSolver: (lambda: Sudoku(each=2, grades=["easy"]), 1_458),
}


def trainer(*callbacks: Any, epochs: int = 1, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(max_epochs=epochs, callbacks=list(callbacks), **{**quiet, **options})


def weights(model: nn.Module) -> torch.Tensor:
    return parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_a_callback_sees_every_parameter_when_it_is_set_up(kind: type) -> None:
    data, count = MODELS[kind]
    seen: list[int] = []
    look = LambdaCallback(setup=lambda trainer, module, stage: seen.append(len(weights(module))))
    model = kind(estimator="ReinMax")
    trainer(look, max_steps=1, epochs=-1, num_sanity_val_steps=0, limit_val_batches=0).fit(model, datamodule=data())
    assert seen == [len(weights(model))] == [count]


def test_stochastic_weight_averaging_averages_all_parameters() -> None:
    averaging = StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1)
    model = DiscreteVAE(estimator="ReinMax")
    trainer(averaging, epochs=3).fit(model, datamodule=Digits())
    average: Any = averaging._average_model
    assert sum(p.numel() for p in average.parameters()) == 24_928
    assert torch.equal(weights(model), weights(average))


@pytest.mark.parametrize("kind", [DiscreteVAE, HierarchicalVAE], ids=lambda kind: kind.__name__)
def test_the_moving_average_of_decay_zero_is_the_model_itself(kind: type) -> None:
    found = {}
    for decay in (None, 0.0, 0.9):
        torch.manual_seed(0)
        model = kind(estimator="ReinMax")
        callbacks = [] if decay is None else [EMAWeightAveraging(decay=decay)]
        trainer(*callbacks, num_sanity_val_steps=0, limit_val_batches=0).fit(model, datamodule=Digits())
        found[decay] = weights(model)
    assert torch.equal(found[0.0], found[None])
    assert not torch.equal(found[0.9], found[None])


def test_pruning_takes_its_share_of_every_weight() -> None:
    model = DiscreteVAE(estimator="ReinMax")
    pruning = ModelPruning("l1_unstructured", amount=0.5, use_global_unstructured=False, make_pruning_permanent=True)
    trainer(pruning).fit(model, datamodule=Digits())
    shares = [(p == 0).float().mean().item() for p in model.parameters() if p.dim() == 2]
    assert shares == [0.5] * 4


@pytest.mark.parametrize(
    "estimator", ["Relax", Reinforce(baseline=NetworkBaseline())], ids=["Relax", "NetworkBaseline"]
)
def test_networks_inside_estimators_are_pruned_too(estimator: Any) -> None:
    model = DiscreteVAE(estimator=estimator)
    trainer(ModelPruning("l1_unstructured", amount=0.5)).fit(model, datamodule=Digits())
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.long
@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_weights_trained_in_forked_processes_come_back(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    save = LambdaCallback(on_train_end=lambda trainer, module: torch.save(weights(module), f"{trainer.global_rank}.pt"))
    data, count = MODELS[kind]
    model = kind(estimator="ReinMax")
    options = {"strategy": "ddp_fork", "devices": 2, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    options["limit_train_batches"] = 15  # boards come without end
    trainer(save, **options).fit(model, datamodule=data())
    assert len(weights(model)) == count
    assert torch.equal(weights(model), torch.load("0.pt", weights_only=True))


class SharedStates(Callback):
    """Saves, on each rank, which metrics keep their sums in memory that all ranks write to."""

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = [part for part in pl_module.modules() if isinstance(part, Metric)]
        shared = [
            type(one).__name__ for one in metrics if any(getattr(one, name).is_shared() for name in one._defaults)
        ]
        torch.save((len(metrics), shared), f"states{trainer.global_rank}.pt")


@pytest.mark.long
def test_spawned_processes_add_up_metrics_each_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    adam: Any = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.003}}
    model = DiscreteVAE(estimator="ReinMax", optimizer=adam, draws=2, importance_samples=2)
    trainer(SharedStates(), strategy="ddp_spawn", devices=2).test(model, datamodule=Digits(), verbose=False)
    found = [torch.load(f"states{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert found == [(7, []), (7, [])]


def test_weights_know_the_size_of_the_data_they_were_made_for(tmp_path: Path) -> None:
    made, empty = (DiscreteVAE(estimator="ReinMax", image_shape=shape) for shape in ([1, 8, 8], None))
    torch.save(made.state_dict(), tmp_path / "weights.pt")
    empty.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert empty.hparams["image_shape"] == [1, 8, 8]
    assert torch.equal(weights(empty), weights(made))


def test_weights_of_another_size_are_refused_even_loosely() -> None:
    other = DiscreteVAE(estimator="ReinMax", image_shape=[1, 3, 3])
    state = DiscreteVAE(estimator="ReinMax", image_shape=[1, 8, 8]).state_dict()
    del state._metadata[""]["size"]
    with pytest.raises(ValueError, match="size mismatch"):
        other.load_state_dict(state, strict=False)
    with pytest.raises(ValueError, match="has made no networks yet: give image_shape"):
        DiscreteVAE(estimator="ReinMax").load_state_dict(state, strict=False)


def test_a_fit_that_goes_on_from_loaded_weights_leaves_the_decoders_bias() -> None:
    trained = DiscreteVAE(estimator="ReinMax", image_shape=[1, 8, 8])
    nn.init.constant_(trained.decoder.layers[-1].bias, 2.5)
    model = DiscreteVAE(estimator="ReinMax")
    model.load_state_dict(trained.state_dict())
    quiet = {"limit_train_batches": 0, "limit_val_batches": 0}
    trainer(**quiet).fit(model, datamodule=Digits())
    assert torch.equal(model.decoder.layers[-1].bias, trained.decoder.layers[-1].bias)


class Late(DiscreteModule):
    """Makes its network in setup."""

    def __init__(self) -> None:
        super().__init__(None, lambda parameters: Adam(parameters))

    def setup(self, stage: str) -> None:
        self.layer = nn.Linear(64, 1)

    def training_step(self, batch: Any) -> torch.Tensor:
        return self.layer(batch.x.flatten(1)).square().mean()

    def validation_step(self, batch: Any) -> None:
        """Measures nothing."""


def test_networks_made_in_setup_are_refused_where_their_weights_would_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    trainer(limit_val_batches=0).fit(Late(), datamodule=Digits())
    with pytest.raises(Exception, match=r"Late made layer.weight in its setup, so the weights trained in processes"):
        trainer(limit_val_batches=0, strategy="ddp_fork", devices=1).fit(Late(), datamodule=Digits())
