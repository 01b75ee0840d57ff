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
        self._trainer: Trainer | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the Trainer, for checkpoints are written before training has ended."""
        self._trainer = trainer

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds what was logged since the start to what the checkpoint knew."""
        self._read()

    def state_dict(self) -> dict[str, Any]:
        self._read()
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values = dict(state_dict["values"])

    def _read(self) -> None:
        if self._trainer is not None:
            self.values |= {name: float(value) for name, value in self._trainer.callback_metrics.items()}
