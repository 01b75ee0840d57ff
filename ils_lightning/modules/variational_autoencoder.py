"""What variational autoencoders with discrete codes share: set-up from the data, steps, logs, pictures, samples."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Generator, Tensor

from ils_lightning.data.images import Images
from ils_lightning.describe import create, in_words
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators import Estimator
from ils_lightning.estimators.categorical import one_hot
from ils_lightning.estimators.distribution import Distribution
from ils_lightning.likelihoods import Bernoulli, Likelihood
from ils_lightning.modules.base import Charts, Tracked
from ils_lightning.modules.code_measures import CodeMeasures, Evaluation
from ils_lightning.modules.code_pictures import CodePictures, evaluating
from ils_lightning.modules.measured import Measured
from ils_lightning.modules.meets_data import IMAGE_SHAPE
from ils_lightning.modules.prior import Prior, UniformPrior
from ils_lightning.networks import MLP, Network

_MOST_DRAWS = 1_000_000


class Objective(NamedTuple):
    """What a training step needs: the scalar to differentiate, -ELBO `[batch]` in nats, and parts of it to log."""

    loss: Tensor
    negative_elbo: Tensor
    parts: dict[str, Tensor]


class VariationalAutoencoder(CodePictures, Measured):
    """The base of the discrete VAEs. Subclasses write `objective`, `evaluate`, `problem` and `sample_prior`.

    Networks are made once the shape of the images is known: from the data when the model meets them, or from
    `image_shape`, which a checkpoint holds. All options are those of the subclasses.
    """

    _abstract = True

    metrics: CodeMeasures
    encoder: Network
    decoder: Network
    image_shape: tuple[int, ...] = ()
    sized_by = IMAGE_SHAPE
    in_bar = ("active_latents",)
    test_after_fit = True
    tracked: Tracked = Tracked("loss", "-ELBO of training images (nats)")
    layers: int = 1
    kl_delay: int = 0
    charts: ClassVar[Charts] = {
        "objective": {
            "-ELBO (nats)": ["train/loss", "val/loss"],
            "-log p(x | z) (nats)": ["train/reconstruction", "val/reconstruction"],
            "KL (nats)": ["train/kl", r"val/kl(_layer_\d+)?"],
        },
        "codes": {
            "perplexity": ["val/perplexity"],
            "share of codes in use": ["val/code_usage"],
            "active latents": ["val/active_latents"],
        },
    }

    def __init__(
        self,
        estimator: Estimator | None,
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
        name, sizes = type(self).__name__, {"draws": draws, "importance_samples": importance_samples}
        require_at_least(1, name, latents=self.latents, categories=self.categories, **sizes)
        require_at_least(0, name, kl_warmup=kl_warmup)
        if max(draws, importance_samples) > _MOST_DRAWS:
            raise Refusal(
                f"{type(self).__name__}: draws and importance_samples of one image must be at most {_MOST_DRAWS:,}; "
                f"given {draws} and {importance_samples}"
            )
        self.kl_warmup, self.draws, self.importance_samples = kl_warmup, draws, importance_samples
        if self.estimator is not None:
            self.estimator.build(*code)
            self.estimator.check(torch.zeros(1, *code))
        self._needs_bias = bias_from_data
        self._frequencies = torch.zeros(0)
        self.prepare_curve()

    def prepare_metrics(self, latents: int) -> None:
        """Makes the metrics, of `latents` latents in all layers together."""
        self.metrics = CodeMeasures(latents, self.categories, self.layers)

    def objective(self, x: Tensor) -> Objective:
        """Returns the loss of training images x `[batch, channels, height, width]`."""
        raise NotImplementedError(f"{type(self).__name__} must define objective(x)")

    def divergence(self, q: Distribution) -> Tensor:
        """Returns KL(q || prior) `[*batch, latents]`, of which a masked category of the prior must be none."""
        self.prior.check(q)
        return self.prior.kl(q)

    def evaluate(self, x: Tensor, draws: int) -> Evaluation:
        """Returns what exact draws of the posterior cost, which is the estimator's `distribution` of the logits."""
        raise NotImplementedError(f"{type(self).__name__} must define evaluate(x, draws)")

    def sample_prior(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draws codes `[count, latents, categories]` that the decoder turns into images."""
        raise NotImplementedError(f"{type(self).__name__} must define sample_prior(count, generator)")

    def make(self, size: tuple[int, ...]) -> None:
        """Makes the networks for images [channels, height, width]."""
        code, (channels, *area) = (self.latents, self.categories), size
        self.encoder.build(size, code)
        self.decoder.build(code, (channels * self.likelihood.parameters_per_pixel, *area))

    def meet(self, data: Any, stage: str) -> None:
        """Takes the shape of the images from the data, and the decoder's bias if wanted."""
        super().meet(data, stage)
        if stage == "fit" and self._needs_bias:
            self._set_bias(getattr(data, "pixel_mean", None))

    def _set_bias(self, pixel_mean: Tensor | None) -> None:
        if pixel_mean is None:
            raise Refusal(
                "bias_from_data needs data with a pixel_mean, as the image data of this package have; set it to false "
                "for other data"
            )
        self.decoder.set_output_bias(self.likelihood.output_bias(pixel_mean))
        self._needs_bias = False

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Loads weights; a decoder that has come by its bias this way keeps it."""
        if any(name.startswith("decoder.") for name in state_dict):
            self._needs_bias = False
        return super().load_state_dict(state_dict, strict, assign)

    def parameter_groups(self) -> Any:
        """The model's parameters; those of a prior with a learning rate of its own are a group."""
        if self.prior.lr is None:
            return self.parameters()
        rest = [p for name, p in self.named_parameters() if not name.startswith("prior.")]
        return [{"params": rest}, {"params": list(self.prior.parameters()), "lr": self.prior.lr}]

    def delay_kl(self, steps: int) -> None:
        """Sets the optimiser steps in which the KL terms have no weight."""
        if steps < 0:
            raise ValueError(f"{type(self).__name__}: kl_delay must be 0 or more steps; given {steps}")
        self.kl_delay = steps

    def kl_weight(self) -> float:
        """The weight of the KL terms: 0 for `kl_delay` optimiser steps, then rising to 1 over `kl_warmup`."""
        after = self.global_step - self.kl_delay
        if after < 0:
            return 0.0
        return min(1.0, after / self.kl_warmup) if self.kl_warmup else 1.0

    def training_step(self, batch: Images) -> Tensor:
        """Returns the loss."""
        loss, negative_elbo, parts = self.objective(batch.x)
        if self._images is None:
            self.remember(batch.x)
        weight = {"kl_weight": torch.tensor(self.kl_weight())} if self.kl_warmup or self.kl_delay else {}
        self.log_training(negative_elbo, **parts, **weight)
        return loss

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        """Measures one exact draw an image."""
        if batch_idx == 0:
            self.remember(batch.x)
        self.metrics.add(self.evaluate(batch.x, 1), 1, 1)

    def test_step(self, batch: Images) -> None:
        """Measures -ELBO with `draws` draws an image and the bound of `importance_samples`."""
        found = self.evaluate(batch.x, max(self.draws, self.importance_samples))
        self.metrics.add(found, self.draws, self.importance_samples)

    def log_metrics(self, stage: str) -> None:
        self._frequencies = self.metrics.frequencies()
        for name, value in self.metrics.take().items():
            if (stage, name) != ("val", "iwae"):  # one draw is no bound of many
                self.log_metric(stage, name, value)

    def predict_step(self, batch: Images) -> dict[str, Tensor]:
        """Returns each image's most probable codes (see `most_probable`) and the mean image they stand for."""
        codes = self.most_probable(batch.x)
        return {"codes": codes, "reconstructions": self.image_of(codes)}

    def encode(self, x: Tensor) -> Tensor:
        """Returns the most probable codes of images, int64 `[batch, latents]`; with layers, those next to the image."""
        with evaluating(self):
            return self.most_probable(x)

    def most_probable(self, x: Tensor) -> Tensor:
        q = self.estimator.distribution(self.encoder(x))
        return q.codes(q.mode())

    def draw_codes(self, x: Tensor) -> Tensor:
        """Returns codes of images drawn from the posterior, int64 `[batch, latents]`, of one category a latent."""
        q = self.estimator.distribution(self.encoder(x))
        return q.codes(q.draw(1)[0])

    def image_of(self, codes: Tensor) -> Tensor:
        z = one_hot(codes, like=self.prior.logits)
        return self.decode(z if self.estimator.ones == 1 else z.sum(dim=-2))

    def decode(self, z: Tensor) -> Tensor:
        """Returns the mean images `[*any, channels, height, width]` of codes `[*any, latents, categories]`."""
        return self.likelihood.mean(self.decoder(z))

    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draws codes from the prior and returns their mean images `[count, channels, height, width]`."""
        with evaluating(self):
            return self.decode(self.sample_prior(count, generator))

    def histograms(self) -> dict[str, Tensor]:
        """How often each code of each latent was drawn at the last validation; 1 / categories if used evenly."""
        return {"code_frequency": self._frequencies} if len(self._frequencies) else {}

    def in_words(self, name: str, value: float) -> tuple[str, str]:
        return self.metrics.in_words(name, value, self.importance_samples)

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
        return rows | self.summary_of_data()

    def note(self) -> str:
        """Whether the codes say nothing, which no other quantity tells at a glance."""
        found = self.trainer.callback_metrics
        for stage, images in (("test", "test"), ("val", "validation")):
            if f"{stage}/active_latents" in found:
                if found[f"{stage}/active_latents"] > 0:
                    return ""
                return (
                    f"the codes say nothing of the {images} images (no active latent, KL {found[f'{stage}/kl']:.3f} "
                    "nats): the decoder does without them. What helps: more epochs, some --model.kl_delay, a longer "
                    "--model.kl_warmup, another seed"
                )
        return ""
