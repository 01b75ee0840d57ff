"""The last logged values, kept by checkpoints: a training that was killed after its last step logs none anew."""

from typing import Any

from lightning import Callback, LightningModule, Trainer


class LastMetrics(Callback):
    """Keeps the last value of every logged quantity.

    Attributes:
        values: by name, once training has ended.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds what was logged since the start to what the checkpoint knew."""
        self.values |= {name: float(value) for name, value in trainer.callback_metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values = dict(state_dict["values"])
