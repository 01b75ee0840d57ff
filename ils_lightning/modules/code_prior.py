"""An autoregressive prior over the codes of a trained discrete VAE: the second stage of an image tokeniser.

    z ~ q(z | x) of the tokeniser, which stays as it is;   minimise E -log p(z),   p(z) = prod_i p(z_i | z_1 .. z_{i-1})
    -ELBO(x) = E [-log p(x | z) + log q(z | x) - log p(z)]

No gradient passes through a draw here, so there is no estimator.

Source: A. van den Oord, O. Vinyals and K. Kavukcuoglu, Neural Discrete Representation Learning, 2017, 1711.00937.
"""

import math
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn
from torch.optim import Adam
from torchmetrics import MeanMetric

from ils_lightning import plots
from ils_lightning.data.images import Images
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators.categorical import draw_index, one_hot, softmax
from ils_lightning.estimators.distribution import Distribution
from ils_lightning.modules.base import Charts, Tracked, require_one_category
from ils_lightning.modules.discrete_vae import DiscreteVAE
from ils_lightning.modules.earlier_stage import earlier_stage
from ils_lightning.modules.measured import Measured
from ils_lightning.networks.causal import CausalCodes
from ils_lightning.networks.code_map import last_map

_SHOWN = 8  # images a side of a picture


class CodePrior(Measured):
    """Learns the distribution of a tokeniser's codes, so that images can be drawn through its decoder.

    A checkpoint holds the tokeniser too. `loss` is -log p(z) of the codes of an image in nats, `elbo` is -ELBO with
    this prior in the place of the tokeniser's own.

    Args:
        tokenizer: last.ckpt of `fit --config tokenizer_digits`, or another checkpoint of a `DiscreteVAE`; in
            checkpoints of this model, the settings to make it with.
        channels: of the network's hidden layers.
        blocks: its residual blocks.
        optimizer: Adam with learning rate 0.001 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> prior = CodePrior(tokenizer={"estimator": "ReinMax", "latents": 16, "image_shape": [1, 8, 8]})
        >>> prior.map_size, prior.sample(3).shape
        ((4, 4), torch.Size([3, 1, 8, 8]))
    """

    test_after_fit = True
    tracked: Tracked = Tracked("loss", "-log p(codes), training images (nats)")
    charts: ClassVar[Charts] = {
        "objective": {"-log p(codes) (nats)": ["train/loss", "val/loss"], "-ELBO (nats)": ["val/elbo"]}
    }

    def __init__(
        self,
        tokenizer: str | dict,
        channels: int = 64,
        blocks: int = 3,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.001),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(None, optimizer, lr_scheduler)
        require_at_least(1, "CodePrior", channels=channels)
        require_at_least(0, "CodePrior", blocks=blocks)
        made, settings = earlier_stage(tokenizer, DiscreteVAE, "CodePrior: tokenizer", "fit --config tokenizer_digits")
        require_one_category("CodePrior", made.estimator)
        self.tokenizer = made.requires_grad_(False)
        self.save_hyperparameters(ignore=["tokenizer"])
        self.make_hyperparameters_plain()
        self.save_hyperparameters({"tokenizer": settings})
        self.map_size = height, width = last_map(made.image_shape[1], made.image_shape[2], made.latents)
        self.network = CausalCodes(made.categories, height, width, channels, blocks)
        self.metrics = nn.ModuleDict({"loss": MeanMetric(), "elbo": MeanMetric()})
        self.prepare_curve()

    def parameter_groups(self) -> Any:
        """The network's parameters: the tokeniser stays as it is."""
        return self.network.parameters()

    def meet(self, data: Any, stage: str) -> None:
        """Checks that the data are images of the tokeniser's shape."""
        del stage
        shape = getattr(data, "image_shape", None)
        if shape is None or tuple(shape) != self.tokenizer.image_shape:
            given = type(data).__name__ if shape is None else list(shape)
            raise Refusal(
                f"CodePrior needs the images of its tokeniser, {list(self.tokenizer.image_shape)}; given {given}"
            )

    def codes(self, x: Tensor) -> tuple[Tensor, Distribution]:
        """Draws codes of images: int64 `[batch, latents]`, and the distribution they are drawn from."""
        with torch.no_grad():
            q = self.tokenizer.estimator.distribution(self.tokenizer.encoder(x))
            return draw_index(q.pi), q

    def encode(self, x: Tensor) -> Tensor:
        """Returns the tokeniser's most probable codes of images, int64 `[batch, latents]`."""
        return self.tokenizer.encode(x)

    def negative_log_prob(self, codes: Tensor) -> Tensor:
        """Returns -log p(z) `[batch]` in nats of codes `[batch, latents]`."""
        return self.network.negative_log_prob(codes)

    def training_step(self, batch: Images) -> Tensor:
        """Returns -log p of freshly drawn codes."""
        loss = self.negative_log_prob(self.codes(batch.x)[0])
        self.log_training(loss)
        return loss.mean()

    def measure(self, batch: Images) -> None:
        """Measures one draw of an image's codes."""
        metrics: Any = self.metrics
        codes, q = self.codes(batch.x)
        z, prior = one_hot(codes, like=q.logits), self.negative_log_prob(codes)
        reconstruction = self.tokenizer.reconstruction_loss(batch.x)(z.unsqueeze(0))[0]
        metrics["loss"].update(prior)
        metrics["elbo"].update(reconstruction + q.log_prob(z).sum(dim=-1) + prior)

    def predict_step(self, batch: Images) -> dict[str, Tensor]:
        """Returns drawn codes `[batch, latents]` and -log p of them `[batch]`."""
        codes, _ = self.codes(batch.x)
        return {"codes": codes, "loss": self.negative_log_prob(codes)}

    @torch.no_grad()
    def sample_codes(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draws codes `[count, latents]`, place by place."""
        height, width = self.map_size
        codes = torch.zeros(count, height, width, dtype=torch.long, device=self.device)
        for row in range(height):
            for column in range(width):
                pi = softmax(self.network(codes)[:, row, column])
                codes[:, row, column] = draw_index(pi, generator=generator)
        return codes.flatten(1)

    @torch.no_grad()
    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draws codes and returns their mean images `[count, channels, height, width]`."""
        codes = self.sample_codes(count, generator)
        return self.tokenizer.decode(one_hot(codes, like=self.tokenizer.prior.logits))

    def figures(self) -> dict[str, Figure]:
        """Images drawn through this prior, and through the tokeniser's own."""
        generators = [Generator(self.device).manual_seed(0) for _ in range(2)]
        drawn = self.sample(_SHOWN**2, generators[0]), self.tokenizer.sample(_SHOWN**2, generators[1])
        titles = "images of codes drawn place by place", "images of codes drawn from the tokeniser's own prior"
        return {
            name: plots.image_grid(images.unflatten(0, (_SHOWN, _SHOWN)).float().cpu(), title)
            for name, images, title in zip(("samples", "samples_before"), drawn, titles, strict=True)
        }

    def summary(self) -> dict[str, str]:
        """-log p of validation codes, beside that of codes drawn evenly, and -ELBO."""
        latents, categories = self.tokenizer.latents, self.tokenizer.categories
        rows = {"tokeniser": f"{latents} codes of {categories}, {latents * math.log(categories):.1f} nats if even"}
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        if "val/loss" in found:
            rows["validation codes"] = f"{found['val/loss']:.2f} nats"
            rows["validation -ELBO"] = f"{found['val/elbo']:.2f} nats"
        return rows | self.summary_of_data()
