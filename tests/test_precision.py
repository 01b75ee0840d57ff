"""bfloat16: the discrete VAEs train with every estimator, dense and convolutional, and stay finite."""

import logging
from typing import Any

import pytest
import torch
from examples import EXAMPLES
from lightning import seed_everything
from trainers import quiet_trainer

from ils_lightning.cli import main
from ils_lightning.data import Digits
from ils_lightning.modules import DiscreteVAE
from ils_lightning.networks import MLP, ConvDecoder, ConvEncoder


def networks(kind: str) -> dict[str, Any]:
    if kind == "dense":
        return {"encoder": MLP([16]), "decoder": MLP([16])}
    return {"encoder": ConvEncoder(8, residual_blocks=1), "decoder": ConvDecoder(8, residual_blocks=1)}


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "vae_digits",
        "vae_hierarchical",
        "hard_attention",
        "listops",
        "moe_text",
        "tokenizer_digits",
        "polynomial",
        "relational",
        "sudoku",
        "toy1",
        "variables_toy",
        "world_model",
        "world_model_grid",
    ],
)
def test_packaged_configurations_run_to_their_end_in_bfloat16(name, tmp_path):
    few = [f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test")]
    words = [
        f"--config={name}",
        "--trainer.precision=bf16-true",
        "--trainer.max_steps=10",
        "--trainer.accelerator=cpu",
        *few,
    ]
    main(["fit", *words, "--trainer.enable_progress_bar=false", f"--trainer.default_root_dir={tmp_path}"])
    assert list(tmp_path.rglob("last.ckpt"))
    assert list(tmp_path.rglob("*.png"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "precision"), [("dense", "bf16-mixed"), ("convolutional", "bf16-mixed"), ("dense", "bf16-true")]
)
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_estimator_trains_in_bfloat16(tmp_path, example, kind, precision):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    seed_everything(0, verbose=False)
    estimator = example.make()
    model = DiscreteVAE(estimator, 4, 2 if estimator.binary else 3, draws=2, importance_samples=2, **networks(kind))
    short = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1}
    trainer = quiet_trainer(tmp_path, precision=precision, **short)
    trainer.fit(model, datamodule=Digits(batch_size=20))
    assert model.decoder.layers[-1].get_parameter("bias").dtype == (
        torch.bfloat16 if precision == "bf16-true" else torch.float32
    )
    assert all(torch.isfinite(value).all() for value in model.state_dict().values() if value.is_floating_point())
    assert torch.isfinite(trainer.callback_metrics["val/loss"])
