"""Bring your own encoder: `python -m ils_lightning.tutorials.own_encoder`.

Two ordinary networks with a discrete code between them, in a LightningModule; the estimator is an argument of it.
"""

import logging
import warnings
from typing import Any

from lightning import Trainer, seed_everything
from torch import Tensor, nn
from torch.optim import Adam

from ils_lightning.data import Digits, Images
from ils_lightning.estimators import Estimator
from ils_lightning.modules import DiscreteModule, Problem

CODE = (6, 8)  # latents, categories
MODEL, OPTIONS = "ils_lightning.tutorials.own_encoder.Autoencoder", "--data.binarize none --trainer.max_epochs 15"


class Encoder(nn.Sequential):
    """Your own network: images `[batch, 1, 8, 8]` to logits `[batch, latents, categories]`."""

    def __init__(self) -> None:
        maps = nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1)  # 16 of 4x4
        super().__init__(maps, nn.ReLU(), nn.Flatten(), nn.Linear(16 * 4 * 4, 6 * 8), nn.Unflatten(-1, CODE))


class Decoder(nn.Sequential):
    """Draws `[samples, batch, latents, categories]` to pixels `[samples, batch, 1, 8, 8]`."""

    def __init__(self) -> None:
        hidden = nn.Flatten(-2), nn.Linear(6 * 8, 64), nn.ReLU()  # on the last axes: any others may come before
        super().__init__(*hidden, nn.Linear(64, 64), nn.Unflatten(-1, (1, 8, 8)))


class Autoencoder(DiscreteModule):
    """Learns codes from which the decoder can tell the image; `DiscreteModule` brings optimiser and checkpoints."""

    def __init__(self, estimator: Estimator) -> None:
        super().__init__(estimator, lambda parameters: Adam(parameters, lr=0.003))
        self.save_hyperparameters(ignore=["estimator"])
        self.make_hyperparameters_plain(estimator=self.estimator)
        self.encoder, self.decoder = Encoder(), Decoder()
        self.estimator.build(*CODE)  # what it learns of a problem of this size, where it learns

    def problem(self, batch: Images) -> Problem:
        """Logits, and squared error as the loss of draws: a value for each draw and row. `diagnose` asks for it too."""
        return Problem(self.encoder(batch.x), lambda z: (self.decoder(z) - batch.x).square().sum(dim=(-3, -2, -1)))

    def training_step(self, batch: Images) -> Tensor:
        """Trains the decoder by df/dtheta and the encoder by the estimate, in one backward pass."""
        logits, f, _ = self.problem(batch)
        return self.estimator(logits, f).mean()

    def validation_step(self, batch: Images) -> None:
        """Measures exact draws, alike for every estimator."""
        logits, f, _ = self.problem(batch)
        self.log("val/loss", self.estimator.value(logits, f).mean())


def main(epochs: int = 15) -> None:
    """Trains the same model with three estimators, one after the other."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning asks torch for a name it is about to lose
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    for name in ("StraightThrough", "ReinMax", "LeaveOneOut"):
        seed_everything(0, verbose=False)
        trainer = Trainer(max_epochs=epochs, accelerator="cpu", enable_model_summary=False, **quiet)
        model = Autoencoder(estimator=name)  # pyright: ignore[reportArgumentType]
        trainer.fit(model, datamodule=Digits(binarize="none"))
        print(f"{name}: squared error {trainer.callback_metrics['val/loss']:.2f} on validation, {epochs} epochs")
    print(f"The same from the shell, with logs:\npython -m ils_lightning fit --model {MODEL} \\")
    print(f"    --model.estimator ReinMax --data Digits {OPTIONS}")


if __name__ == "__main__":
    main()
