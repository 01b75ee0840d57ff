"""The curve of a model that records none of its own: the loss it trains on."""

from typing import Any, ClassVar

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.modules import Tracked


def without_curve(name: str) -> str:
    """Says what a model lacks that neither records a curve nor returns a loss."""
    return (
        "compare needs a curve: a training_step that returns the loss, optimised by Lightning, or an attribute "
        f"`tracked` (name and label) with a method `curve()` that returns its steps and values; {name} has neither"
    )


class TrainingLoss(Callback):
    """Records the mean of what `training_step` returned, once an epoch and when training ends."""

    tracked: ClassVar[Tracked] = Tracked("loss", "training loss")

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._means: list[float] = []
        self._losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Keeps a loss on the device."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            self._losses.append(loss.detach().float().mean())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the epoch."""
        if self._losses:
            self._steps.append(trainer.global_step)
            self._means.append(float(torch.stack(self._losses).mean()))
            self._losses = []

    def curve(self) -> tuple[Tensor, Tensor]:
        """Returns the steps at which epochs ended `[points]` and mean losses `[points, 1]`.

        Raises:
            ValueError: when no training step returned a loss.
        """
        if not self._steps:
            raise Refusal(without_curve("this model"))
        return torch.tensor(self._steps), torch.tensor(self._means).unsqueeze(-1)

    def state_dict(self) -> dict[str, Any]:
        losses = [float(loss) for loss in self._losses]
        return {"steps": list(self._steps), "means": list(self._means), "losses": losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._steps, self._means = list(state_dict["steps"]), list(state_dict["means"])
        self._losses = [torch.tensor(loss) for loss in state_dict["losses"]]
