"""What variational autoencoders with discrete codes share: set-up from the data, steps, logs, pictures, samples."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn
from torchmetrics import MeanMetric

from ils_lightning import plots
from ils_lightning.data.images import Images
from ils_lightning.describe import create, in_words
from ils_lightning.estimators import Estimator
from ils_lightning.estimators.categorical import one_hot
from ils_lightning.likelihoods import Bernoulli, Likelihood
from ils_lightning.metrics import ActiveLatents, CodeUsage, ImportanceWeightedBound, NegativeELBO, Perplexity
from ils_lightning.modules.base import DiscreteModule, Tracked
from ils_lightning.modules.epoch_curve import EpochCurve
from ils_lightning.modules.prior import Prior, UniformPrior
from ils_lightning.networks import MLP, Network

_SHOWN = 8  # images in a picture


class Objective(NamedTuple):
    """What a training step needs: the scalar to differentiate, -ELBO `[batch]` in nats, and parts of it to log."""

    loss: Tensor
    negative_elbo: Tensor
    parts: dict[str, Tensor]


class Evaluation(NamedTuple):
    """What exact draws of the codes of a batch cost, in nats.

    Attributes:
        reconstruction: -log p(x | z), `[draws, batch]`.
        kl: KL terms, `[batch, layers]`: exact, or the mean over draws where a layer is conditioned on draws.
        log_weights: log p(x, z) - log q(z | x), `[draws, batch]`.
        pi: posterior probabilities, `[batch, latents, categories]`.
        z: the draws, `[draws, batch, latents, categories]`.
    """

    reconstruction: Tensor
    kl: Tensor
    log_weights: Tensor
    pi: Tensor
    z: Tensor


class VariationalAutoencoder(EpochCurve, DiscreteModule):
    """The base of the discrete VAEs. Subclasses write `objective`, `evaluate`, `problem` and `sample_prior`.

    Networks are made once the shape of the images is known: from the data in `setup`, or from `image_shape`, which a
    checkpoint holds. All options are those of the subclasses.
    """

    _abstract = True

    encoder: Network
    decoder: Network
    test_after_fit = True
    tracked: Tracked = Tracked("loss", "-ELBO of training images (nats)")
    layers: int = 1

    def __init__(
        self,
        estimator: Estimator,
        networks: tuple[Network | None, Network | None],
        likelihood: Likelihood | None,
        prior: Prior | None,
        code: tuple[int, int],
        kl_warmup: int,
        bias_from_data: bool,
        draws: int,
        importance_samples: int,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
    ) -> None:
        super().__init__(estimator, optimizer, lr_scheduler)
        self.encoder, self.decoder = (create(network or MLP([128]), Network) for network in networks)
        self.likelihood: Likelihood = create(likelihood or Bernoulli(), Likelihood)
        self.prior: Prior = create(prior or UniformPrior(), Prior)
        self.latents, self.categories = code
        if min(*code, draws, importance_samples) < 1 or kl_warmup < 0:
            raise ValueError(
                f"{type(self).__name__}: latents, categories, draws and importance_samples must be at least 1, "
                f"kl_warmup 0 or more steps; given {self.latents}, {self.categories}, {draws}, {importance_samples} "
                f"and {kl_warmup}"
            )
        self.kl_warmup, self.draws, self.importance_samples = kl_warmup, draws, importance_samples
        self.estimator.build(*code)
        self.estimator.check(torch.zeros(1, *code))
        self.image_shape: tuple[int, ...] = ()
        self._needs_bias = bias_from_data
        self._images: Tensor | None = None
        self._frequencies = torch.zeros(0)
        self.prepare_curve()

    def prepare_metrics(self, latents: int) -> None:
        """Makes the metrics, of `latents` latents in all layers together."""
        code = latents, self.categories
        self.metrics = nn.ModuleDict({"loss": NegativeELBO(), "reconstruction": MeanMetric(), "kl": MeanMetric()})
        self.metrics.update({"perplexity": Perplexity(*code), "code_usage": CodeUsage(*code)})
        self.metrics.update({"active_latents": ActiveLatents(*code), "iwae": ImportanceWeightedBound()})
        if self.layers > 1:
            self.metrics.update({f"kl_layer_{layer + 1}": MeanMetric() for layer in range(self.layers)})

    def objective(self, x: Tensor) -> Objective:
        """Returns the loss of training images x `[batch, channels, height, width]`."""
        raise NotImplementedError(f"{type(self).__name__} must define objective(x)")

    def evaluate(self, x: Tensor, draws: int) -> Evaluation:
        """Returns what exact draws cost, alike for every estimator."""
        raise NotImplementedError(f"{type(self).__name__} must define evaluate(x, draws)")

    def sample_prior(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draws codes `[count, latents, categories]` that the decoder turns into images."""
        raise NotImplementedError(f"{type(self).__name__} must define sample_prior(count, generator)")

    def build(self, image_shape: Sequence[int]) -> None:
        """Makes the networks for images [channels, height, width], once.

        Raises:
            ValueError: when they were made for other images.
        """
        shape = tuple(image_shape)
        if self.image_shape and shape != self.image_shape:
            raise ValueError(
                f"{type(self).__name__} was made for images [channels, height, width] = {list(self.image_shape)}; "
                f"these are {list(shape)}"
            )
        if not self.image_shape:
            code, pixels = (
                (self.latents, self.categories),
                (shape[0] * self.likelihood.parameters_per_pixel, *shape[1:]),
            )
            self.encoder.build(shape, code)
            self.decoder.build(code, pixels)
            self.image_shape = shape
            self.hparams["image_shape"] = list(shape)

    def setup(self, stage: str) -> None:
        """Takes the shape of the images from the data, and the decoder's bias if wanted."""
        data = getattr(self.trainer, "datamodule", None)
        shape = getattr(data, "image_shape", None)
        if shape is not None:
            self.build(shape)
        if not self.image_shape:
            raise ValueError(
                f"{type(self).__name__} needs data that are images, such as --data Digits, or image_shape; "
                f"given {type(data).__name__}"
            )
        if stage == "fit" and self._needs_bias:
            self._set_bias(getattr(data, "pixel_mean", None))

    def _set_bias(self, pixel_mean: Tensor | None) -> None:
        if pixel_mean is None:
            raise ValueError(
                "bias_from_data needs data with a pixel_mean, as the image data of this package have; set it to false "
                "for other data"
            )
        self.decoder.set_output_bias(self.likelihood.output_bias(pixel_mean))
        self._needs_bias = False

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        super().on_load_checkpoint(checkpoint)
        self._needs_bias = False

    def parameter_groups(self) -> Any:
        """The model's parameters; those of a prior with a learning rate of its own are a group."""
        if self.prior.lr is None:
            return self.parameters()
        rest = [p for name, p in self.named_parameters() if not name.startswith("prior.")]
        return [{"params": rest}, {"params": list(self.prior.parameters()), "lr": self.prior.lr}]

    def kl_weight(self) -> float:
        """The weight of the KL terms: rises from 0 to 1 over `kl_warmup` optimiser steps."""
        return min(1.0, self.global_step / self.kl_warmup) if self.kl_warmup else 1.0

    def training_step(self, batch: Images) -> Tensor:
        """Returns the loss; logs only when the Trainer does, for a log costs as much as a small step."""
        loss, negative_elbo, parts = self.objective(batch.x)
        self.count(negative_elbo)
        if self._images is None:
            self._images = batch.x[:_SHOWN]
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # pyright: ignore[reportAttributeAccessIssue]
            values = {"loss": negative_elbo.detach().mean(), **parts, **self.estimator.diagnostics()}
            values |= {"kl_weight": torch.tensor(self.kl_weight())} if self.kl_warmup else {}
            self.log_dict({f"train/{name}": value.float() for name, value in values.items()}, batch_size=1)
            self.log("loss", values["loss"], prog_bar=True, logger=False, batch_size=1)
        return loss

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        """Measures one exact draw an image."""
        if batch_idx == 0:
            self._images = batch.x[:_SHOWN]
        self._measure(batch.x, 1, 1)

    def test_step(self, batch: Images) -> None:
        """Measures -ELBO with `draws` draws an image and the bound of `importance_samples`."""
        self._measure(batch.x, self.draws, self.importance_samples)

    def _measure(self, x: Tensor, draws: int, importance_samples: int) -> None:
        metrics: Any = self.metrics
        found = self.evaluate(x, max(draws, importance_samples))
        reconstruction, kl = found.reconstruction[:draws].mean(dim=0), found.kl.sum(dim=-1)
        metrics["loss"].update(reconstruction, kl)
        metrics["reconstruction"].update(reconstruction)
        metrics["kl"].update(kl)
        metrics["perplexity"].update(found.z)
        metrics["code_usage"].update(found.z)
        metrics["active_latents"].update(found.pi)
        metrics["iwae"].update(found.log_weights[:importance_samples])
        for layer in range(self.layers if self.layers > 1 else 0):
            metrics[f"kl_layer_{layer + 1}"].update(found.kl[:, layer])

    def on_validation_epoch_end(self) -> None:
        """Logs what the validation set measured."""
        self._log_metrics("val", leave_out=("iwae",))

    def on_test_epoch_end(self) -> None:
        """Logs what the test set measured."""
        self._log_metrics("test")

    def _log_metrics(self, stage: str, leave_out: tuple[str, ...] = ()) -> None:
        metrics: Any = self.metrics
        counts = metrics["code_usage"].counts
        self._frequencies = (counts / counts.sum(dim=-1, keepdim=True)).float().cpu()
        for name, metric in metrics.items():
            if name not in leave_out:
                self.log(f"{stage}/{name}", metric.compute(), sync_dist=True, prog_bar=(stage, name) == ("val", "loss"))
            metric.reset()

    def predict_step(self, batch: Images) -> dict[str, Tensor]:
        """Returns each image's most probable codes `[batch, latents]` and the mean image they stand for."""
        codes = self.encoder(batch.x).argmax(dim=-1)
        small = codes.to(torch.uint8 if self.categories <= 256 else torch.int64)
        return {"codes": small, "reconstructions": self.decode(self._one_hot(codes))}

    def decode(self, z: Tensor) -> Tensor:
        """Returns the mean images `[*any, channels, height, width]` of codes `[*any, latents, categories]`."""
        return self.likelihood.mean(self.decoder(z))

    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draws codes from the prior and returns their mean images `[count, channels, height, width]`."""
        with self._evaluating():
            return self.decode(self.sample_prior(count, generator))

    def _one_hot(self, codes: Tensor) -> Tensor:
        return one_hot(codes, like=self.prior.logits)

    def figures(self) -> dict[str, Figure]:
        """Reconstructions of images (of their most probable codes), samples of the prior, and a code's traversal."""
        if self._images is None:
            return {}
        with self._evaluating():
            x = self._images.to(self.device)
            codes = self.encoder(x).argmax(dim=-1)
            seen_again = self.decode(self._one_hot(codes))
            samples = self.sample(_SHOWN**2, torch.Generator(self.device).manual_seed(0))
            traversal = self.traversal(codes[0])
        grids = {
            "reconstructions": (torch.stack([x, seen_again]), "images, and what their most probable codes stand for"),
            "samples": (samples.unflatten(0, (_SHOWN, _SHOWN)), "images of codes drawn from the prior"),
            "traversal": (traversal, "the first image's code, one latent (row) set to each category (column)"),
        }
        return {name: plots.image_grid(images.float().cpu(), title) for name, (images, title) in grids.items()}

    def traversal(self, codes: Tensor, rows: int = 8, columns: int = 16) -> Tensor:
        """Images `[latents, categories, channels, height, width]` of codes `[latents]` with one latent changed."""
        shown, categories = min(rows, self.latents), min(columns, self.categories)
        grid = codes.repeat(shown, categories, 1)
        for latent in range(shown):
            grid[latent, :, latent] = torch.arange(categories, device=codes.device)
        return self.decode(self._one_hot(grid))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode without gradients, inside the block only."""
        mode = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(mode)

    def histograms(self) -> dict[str, Tensor]:
        """How often each code of each latent was drawn at the last validation; 1 / categories if used evenly."""
        return {"code_frequency": self._frequencies} if len(self._frequencies) else {}

    def summary(self) -> dict[str, str]:
        """-ELBO of training and validation images, and how many codes are in use."""
        rows = {"estimator": in_words(self.estimator)}
        _, values = self.curve()
        if len(values):
            rows["train -ELBO, last epoch"] = f"{values[-1].item():.2f} nats"
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        for stage, name in (("val", "validation"), ("test", "test")):
            if f"{stage}/loss" in found:
                rows[f"{name} -ELBO"] = f"{found[f'{stage}/loss']:.2f} nats"
                rows[f"{name} perplexity"] = f"{found[f'{stage}/perplexity']:.2f} of {self.categories} codes"
        data: Any = getattr(self.trainer, "datamodule", None)
        return rows | (data.summary() if hasattr(data, "summary") else {})
