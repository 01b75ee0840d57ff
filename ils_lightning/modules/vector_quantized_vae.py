"""An autoencoder whose codes are the nearest in a codebook: vector quantisation, ours and that of others.

    v = encoder(x),   quantized, codes, loss = quantizer(v)
    minimise -log p(x | decoder(quantized)) + loss_weight loss

The encoder has one answer for an image, so that its codes are a posterior without entropy, and -ELBO is what they and
the image cost when they are sent: -log p(x | codes) - log p(codes). With an even prior the second is latents log K.

Source: A. van den Oord, O. Vinyals and K. Kavukcuoglu, Neural Discrete Representation Learning, 2017, 1711.00937.
"""

import math
from typing import ClassVar

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Generator, Tensor
from torch.nn import functional
from torch.optim import Adam

from ils_lightning.data.images import Images
from ils_lightning.describe import create, in_words
from ils_lightning.errors import Refusal
from ils_lightning.layers import VectorQuantizer
from ils_lightning.likelihoods import Likelihood
from ils_lightning.modules.base import Charts, Problem
from ils_lightning.modules.code_measures import Evaluation
from ils_lightning.modules.prior import UniformPrior
from ils_lightning.modules.variational_autoencoder import Objective, VariationalAutoencoder
from ils_lightning.networks import Network


class VectorQuantizedVAE(VariationalAutoencoder):
    """Learns codes of images by a quantiser of the encoder's vectors, one vector a latent.

    Any `VectorQuantizer` will do: a `Quantizer`, which draws in training through any estimator, or a
    `ReleasedQuantizer` of another package. Validation and test take the code that it takes in evaluation mode.

    Args:
        quantizer: of vectors; its `dim` is their width.
        latents: codes of an image; of convolutional networks the places of a code map.
        encoder: images to vectors; `MLP([128])` unless given.
        decoder: quantised vectors to the likelihood's parameters; `MLP([128])` unless given.
        likelihood: of pixels; `Bernoulli()` unless given.
        loss_weight: nats an image that one unit of the quantiser's own loss counts for.
        bias_from_data: start with a decoder whose bias alone describes the mean training image.
        image_shape: [channels, height, width]; taken from the data unless given.
        optimizer: Adam with learning rate 0.001 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> from ils_lightning.layers import Quantizer
        >>> model = VectorQuantizedVAE(Quantizer(dim=4, codebook_size=8), latents=16, image_shape=[1, 8, 8])
        >>> model.sample(3).shape
        torch.Size([3, 1, 8, 8])
    """

    charts: ClassVar[Charts] = {
        **VariationalAutoencoder.charts,
        "quantizer": {"the quantiser's own loss": ["train/quantizer_loss"]},
    }

    def __init__(
        self,
        quantizer: VectorQuantizer,
        latents: int = 16,
        encoder: Network | None = None,
        decoder: Network | None = None,
        likelihood: Likelihood | None = None,
        loss_weight: float = 1.0,
        bias_from_data: bool = True,
        image_shape: list[int] | None = None,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.001),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        made: VectorQuantizer = create(quantizer, VectorQuantizer)
        code = (latents, made.codebook_size)
        networks = (encoder, decoder)
        super().__init__(
            None, networks, likelihood, UniformPrior(), code, 0, bias_from_data, 1, 1, optimizer, lr_scheduler
        )
        if not 0 <= loss_weight < math.inf:
            raise Refusal(f"VectorQuantizedVAE: loss_weight must be at least 0 and finite; given {loss_weight}")
        self.quantizer, self.loss_weight = made, loss_weight
        self.save_hyperparameters(ignore=["quantizer", "encoder", "decoder", "likelihood"])
        self.make_hyperparameters_plain(
            quantizer=made, encoder=self.encoder, decoder=self.decoder, likelihood=self.likelihood
        )
        self.prior.build(*code)
        self.prepare_metrics(latents)
        if image_shape:
            self.build(image_shape)

    def make(self, size: tuple[int, ...]) -> None:
        """Makes the networks for images [channels, height, width]."""
        vectors, (channels, *area) = (self.latents, self.quantizer.dim), size
        self.encoder.build(size, vectors)
        self.decoder.build(vectors, (channels * self.likelihood.parameters_per_pixel, *area))

    def code_cost(self) -> float:
        """Nats of the codes of an image where all are equally probable."""
        return self.latents * math.log(self.categories)

    def objective(self, x: Tensor) -> Objective:
        quantized, codes, own = self.quantizer(self.encoder(x))
        self.check(codes)
        cost = -self.likelihood.log_prob(self.decoder(quantized), x)
        parts = {"reconstruction": cost.detach().mean(), "quantizer_loss": own.detach()}
        return Objective(cost.mean() + self.loss_weight * own, cost.detach() + self.code_cost(), parts)

    def check(self, codes: Tensor) -> None:
        """Raises a ValueError where a vector has several codes."""
        if codes.shape[1:] != (self.latents,):
            raise Refusal(
                f"VectorQuantizedVAE needs one code for each of {self.latents} vectors; {in_words(self.quantizer)} "
                f"gives {list(codes.shape[1:])}: one head and one level, please"
            )

    def evaluate(self, x: Tensor, draws: int) -> Evaluation:
        """What the codes of evaluation mode cost, which are the same in all draws."""
        quantized, codes, _ = self.quantizer(self.encoder(x))
        reconstruction = -self.likelihood.log_prob(self.decoder(quantized), x).expand(draws, -1)
        z = functional.one_hot(codes, self.categories).to(x.dtype)
        kl = x.new_full((len(x), 1), self.code_cost())
        return Evaluation(reconstruction, kl, -reconstruction - self.code_cost(), z, z.expand(draws, *z.shape))

    def problem(self, batch: Images) -> Problem:
        """There is none to measure estimators on.

        Raises:
            ValueError: always.
        """
        raise Refusal(
            "diagnose measures estimators on a model that draws its codes, such as DiscreteVAE; VectorQuantizedVAE has "
            "a quantiser"
        )

    def evaluations(self, batch: Images) -> float:
        """Images that the decoder makes in a training step."""
        return float(len(batch.x))

    def most_probable(self, x: Tensor) -> Tensor:
        return self.quantizer(self.encoder(x))[1]

    def draw_codes(self, x: Tensor) -> Tensor:
        return self.most_probable(x)

    def image_of(self, codes: Tensor) -> Tensor:
        vectors = self.quantizer.indices_to_codes(codes.reshape(-1, self.latents))
        return self.likelihood.mean(self.decoder(vectors.unflatten(0, codes.shape[:-1])))

    def decode(self, z: Tensor) -> Tensor:
        return self.image_of(z.argmax(dim=-1))

    def sample_prior(self, count: int, generator: Generator | None = None) -> Tensor:
        return self.prior.sample(count, generator)

    def summary(self) -> dict[str, str]:
        """The quantiser, in the place of an estimator, and what else a summary has."""
        rows = super().summary()
        del rows["estimator"]
        return {"quantizer": in_words(self.quantizer), **rows}
