"""What tokenisers of images are judged by: how near they come, and what their codes cost under a prior learnt of them.

    PSNR = -10 log10 of the mean squared error of an image's pixels in [0, 1], the mean over images
    nats = E_{z ~ q(z|x)} [-log p(x | z) + log q(z | x) - log p(z)],   p(z) = prod_i p(z_i | z_1 .. z_{i-1})

p is fitted to the codes of the training images before the test, alike for every tokeniser. q(z | x) is 1 where codes
are not drawn, so that nats is what images cost when they are sent by their codes, whatever has made these.

trainer:
  callbacks:
    - class_path: TokenizerMeasures
"""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import LinearLR
from torchmetrics import MeanMetric

from ils_lightning.callbacks.rank_seed import random_state, restore
from ils_lightning.encode import in_order
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.modules.code_pictures import evaluating
from ils_lightning.modules.discrete_vae import DiscreteVAE
from ils_lightning.modules.vector_quantized_vae import VectorQuantizedVAE
from ils_lightning.networks.causal import CausalCodes
from ils_lightning.networks.code_map import last_map

Tokenizer = DiscreteVAE | VectorQuantizedVAE


class TokenizerMeasures(Callback):
    """Logs `psnr` of validation and test images, and at test `nats` and its part `code_nats`, -log p(z).

    PSNR is that of the most probable codes; nats are of one draw an image. The prior is the network of a `CodePrior`,
    which begins even and is fitted by Adam at a rate that falls to 0. Its random numbers are the same for all models,
    and those of the test are as without it.

    Args:
        epochs: for which the prior is fitted to a draw of each training image's codes; 0 leaves it even.
        batch_size: images a step.
        channels: of the prior's hidden layers.
        blocks: its residual blocks.
        lr: learning rate that it begins with.

    Example:
        >>> callback = TokenizerMeasures(epochs=2)
    """

    def __init__(
        self, epochs: int = 1, batch_size: int = 100, channels: int = 32, blocks: int = 2, lr: float = 0.003
    ) -> None:
        require_at_least(0, "TokenizerMeasures", epochs=epochs, blocks=blocks)
        require_at_least(1, "TokenizerMeasures", batch_size=batch_size, channels=channels)
        if not 0 < lr < float("inf"):
            raise Refusal(f"TokenizerMeasures: lr must be greater than 0 and finite; given {lr}")
        self.epochs, self.batch_size, self.channels, self.blocks, self.lr = epochs, batch_size, channels, blocks, lr
        self._prior: Any = None
        self._found: dict[str, MeanMetric] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses models without codes of one category a latent."""
        model: Any = pl_module
        if not isinstance(model, Tokenizer) or getattr(model.estimator, "ones", 1) != 1:
            raise Refusal(
                "TokenizerMeasures needs a DiscreteVAE or VectorQuantizedVAE whose draws are of one category; given "
                f"{type(pl_module).__name__}"
            )

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._found = {"psnr": MeanMetric().to(pl_module.device)}

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fits the prior to codes of the training images."""
        self._found = {name: MeanMetric().to(pl_module.device) for name in ("psnr", "nats", "code_nats")}
        before = random_state()
        torch.manual_seed(0)
        try:
            self._prior = self._fitted(pl_module, trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]
        finally:
            restore(before)

    def _fitted(self, model: Any, data: Any) -> CausalCodes:
        """The prior, after all of its epochs."""
        with torch.inference_mode(False), torch.enable_grad():
            _, height, width = model.image_shape
            height, width = last_map(height, width, model.latents)
            network = CausalCodes(model.categories, height, width, self.channels, self.blocks).to(model.device)
            torch.nn.init.zeros_(network.last.weight)
            torch.nn.init.zeros_(network.last.bias)
            if self.epochs == 0:
                return network
            codes = self._codes(model, data)
            batches = [rows for _ in range(self.epochs) for rows in torch.randperm(len(codes)).split(self.batch_size)]
            optimizer = Adam(network.parameters(), lr=self.lr)
            falling = LinearLR(optimizer, 1.0, 0.0, total_iters=len(batches))
            for rows in batches:
                optimizer.zero_grad()
                network.negative_log_prob(codes[rows].long().to(model.device)).mean().backward()
                optimizer.step()
                falling.step()
        return network

    def _codes(self, model: Any, data: Any) -> Tensor:
        """A draw of the codes of each training image, `[images, latents]`, on the CPU."""
        if data is None:
            raise Refusal("TokenizerMeasures needs the training images of a DataModule; given loaders by themselves")
        with evaluating(model):
            batches = (move_data_to_device(batch, model.device) for batch in in_order(data, "train"))
            return torch.cat([model.draw_codes(batch.x).to("cpu", torch.int32) for batch in batches])

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._found["psnr"].update(psnr(pl_module, batch.x))

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Measures a draw of each image's codes."""
        model, prior, before = pl_module, self._prior, random_state()
        found = model.evaluate(batch.x, 1)
        restore(before)
        cost = prior.negative_log_prob(found.z[0].argmax(dim=-1))
        even = model.prior.log_prob(found.z[0])
        self._found["psnr"].update(psnr(model, batch.x))
        self._found["code_nats"].update(cost)
        self._found["nats"].update(cost + even - found.log_weights[0])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(pl_module, "test")
        self._prior = None

    def _log(self, model: LightningModule, stage: str) -> None:
        for name, metric in self._found.items():
            model.log(f"{stage}/{name}", metric.compute(), sync_dist=True)


def psnr(model: Any, x: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels of images `[batch, channels, height, width]` in [0, 1], `[batch]`.

    It is 100 at most, so that an image that is met exactly does not decide a mean over images alone.
    """
    again = model.image_of(model.most_probable(x))
    return -10 * (again - x).square().mean(dim=(-3, -2, -1)).clamp(min=1e-10).log10()
