"""A LightningModule and a LightningDataModule that know nothing of this package, for the verbs of the command line."""

from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Router(LightningModule):
    """Regression through a soft choice among three experts."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.router, self.experts = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.router(x).softmax(-1) * self.experts(x)).sum(-1)

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return (self(x) - y).square().mean()

    def training_step(self, batch: Any) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any) -> None:
        self.log("error", self.loss(batch))

    def test_step(self, batch: Any) -> None:
        self.log("test_error", self.loss(batch))

    def predict_step(self, batch: Any) -> Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


class PosedRouter(Router):
    """The same with what `diagnose` and `sample` ask for."""

    def problem(self, batch: Any) -> Any:
        x, y = batch
        answers = self.experts(x)
        return self.router(x).unsqueeze(-2), lambda z: ((z[..., 0, :] * answers).sum(-1) - y).square(), None

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.rand(count, 1, 8, 8, generator=generator) * self.experts.weight.abs().sum().clamp(max=1.0)


class Silent(Router):
    """Optimises by hand and returns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


class Pairs(LightningDataModule):
    """Pairs of x and y, whole batches."""

    def loader(self) -> DataLoader:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(128, 4, generator=generator)
        return DataLoader(
            TensorDataset(x, torch.where(x[:, 0] > 0, x[:, 1], -x[:, 2])), batch_size=64, generator=generator
        )

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = loader
