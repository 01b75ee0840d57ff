"""A model and its data made ready as a Trainer does it, for verbs that are no loop of the Trainer's."""

from typing import Any

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from torch.nn.parameter import is_lazy

from ils_lightning.errors import Refusal


def set_up(
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule,
    ckpt_path: str | None = None,
    weights_only: bool = True,
    stage: str = "fit",
) -> None:
    """Sets data and model up, loads the checkpoint if there is one, and moves the model to the Trainer's device."""
    parts: Any = trainer, model, datamodule
    parts[2].trainer = parts[1].trainer = trainer
    parts[0].datamodule = datamodule
    datamodule.prepare_data()
    datamodule.setup(stage)
    model.setup(stage)
    model.configure_model()
    if ckpt_path is not None:
        checkpoint = torch.load(ckpt_path, map_location="cpu", weights_only=weights_only)
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(checkpoint["state_dict"])
    require_numbers(model)
    model.to(trainer.strategy.root_device)


def require_numbers(model: LightningModule) -> None:
    """Checks that what a model has learnt are numbers: nothing that comes out of others is a result.

    Raises:
        ValueError: when a parameter holds NaN.
    """
    for name, parameter in model.named_parameters():
        if not is_lazy(parameter) and parameter.isnan().any():
            raise Refusal(f"the weights of this {type(model).__name__} are not finite: {name} holds NaN")
