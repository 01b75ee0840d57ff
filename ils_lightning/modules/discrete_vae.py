"""The discrete variational autoencoder with one layer of categorical latents.

    -ELBO(x) = E_{z ~ q(z|x)}[-log p(x|z)] + KL(q(z|x) || p(z)),   q(z|x) = prod_l q_l(encoder(x)_l)

q_l is what the estimator draws from, softmax unless it says otherwise (`Estimator.distribution`). The KL term is exact;
the estimator serves the expectation.

Source: Jang, Gu and Poole, 2017 (1611.01144); sizes and protocol of Liu et al., 2023 (2304.08612).
"""

from collections.abc import Callable

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Generator, Tensor
from torch.optim import Adam

from ils_lightning.data.images import Images
from ils_lightning.describe import in_words
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator
from ils_lightning.estimators.distribution import Distribution
from ils_lightning.likelihoods import Likelihood
from ils_lightning.modules.base import Problem
from ils_lightning.modules.code_measures import Evaluation
from ils_lightning.modules.prior import Prior
from ils_lightning.modules.variational_autoencoder import Objective, VariationalAutoencoder
from ils_lightning.networks import Network


class DiscreteVAE(VariationalAutoencoder):
    """Learns codes of images: `latents` categorical variables of `categories` values each, 2 being Bernoulli.

    The training loss is the mean over the batch. The defaults are those for `Digits`. `Vimco` trains its bound of
    several draws, which is then what is recorded; validation and test measure -ELBO with every estimator.

    Args:
        estimator: any estimator.
        latents: categorical variables of a code.
        categories: values of each.
        encoder: images to logits; `MLP([128])` unless given.
        decoder: one-hot codes to the likelihood's parameters; `MLP([128])` unless given.
        likelihood: of pixels; `Bernoulli()` unless given.
        prior: of codes; `UniformPrior()` unless given.
        kl_warmup: optimiser steps in which the weight of the KL term rises from 0 to 1; 0 for none.
        kl_delay: optimiser steps before that in which the weight is 0. A weight however small may flatten all codes in
            the first steps, for Adam scales the gradients of an encoder that nothing is asked of yet.
        free_bits: nats of each latent's KL, in the mean over the batch, that cost nothing to go without (Kingma et al.,
            2016, 1606.04934); 0 for none.
        bias_from_data: start with a decoder whose bias alone describes the mean training image. Without it the first
            steps push every image to one code, under any estimator, the exact gradient included.
        draws: exact draws an image for -ELBO at test.
        importance_samples: draws an image for the importance-weighted bound at test (Burda et al., 2016, 1509.00519).
        image_shape: [channels, height, width]; taken from the data unless given.
        optimizer: Adam with learning rate 0.001 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> model = DiscreteVAE(estimator=ReinMax(), latents=8, categories=4, image_shape=[1, 8, 8])
        >>> model.sample(3).shape
        torch.Size([3, 1, 8, 8])
    """

    def __init__(
        self,
        estimator: Estimator,
        latents: int = 8,
        categories: int = 4,
        encoder: Network | None = None,
        decoder: Network | None = None,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        kl_warmup: int = 0,
        free_bits: float = 0.0,
        bias_from_data: bool = True,
        draws: int = 50,
        importance_samples: int = 50,
        image_shape: list[int] | None = None,
        kl_delay: int = 0,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.001),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(
            estimator,
            (encoder, decoder),
            likelihood,
            prior,
            (latents, categories),
            kl_warmup,
            bias_from_data,
            draws,
            importance_samples,
            optimizer,
            lr_scheduler,
        )
        if not 0 <= free_bits < float("inf"):
            raise Refusal(f"DiscreteVAE: free_bits must be at least 0 nats and finite; given {free_bits}")
        if free_bits and self.estimator.needs_log_weight:
            raise Refusal(
                f"DiscreteVAE: free_bits are for KL terms of latents, and the bound of {in_words(self.estimator)} has "
                f"none: set them to 0, or take LeaveOneOut; given {free_bits}"
            )
        self.free_bits = free_bits
        self.delay_kl(kl_delay)
        self.save_hyperparameters(ignore=["estimator", "encoder", "decoder", "likelihood", "prior"])
        self.make_hyperparameters_plain(
            estimator=self.estimator,
            encoder=self.encoder,
            decoder=self.decoder,
            likelihood=self.likelihood,
            prior=self.prior,
        )
        self.prior.build(latents, categories)
        self.prepare_metrics(latents)
        if image_shape:
            self.build(image_shape)

    def reconstruction_loss(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Returns f(z) = -log p(x | z), which the estimator calls."""
        return lambda z: -self.likelihood.log_prob(self.decoder(z), x)

    def loss_of_codes(self, x: Tensor, q: Distribution) -> Callable[[Tensor], Tensor]:
        """Returns what the estimator is asked of codes of posterior q: -log p(x | z), or minus their whole log-weight.

        The latter, with the KL terms' weight on log q(z | x) - log p(z), is for bounds made of weights.
        """
        f = self.reconstruction_loss(x)
        if not self.estimator.needs_log_weight:
            return f
        p, weight = self.prior.distribution(q), self.kl_weight()
        return lambda z: f(z) + weight * (q.log_prob(z) - p.log_prob(z)).sum(dim=-1)

    def objective(self, x: Tensor) -> Objective:
        logits = self.encoder(x)
        q = self.estimator.distribution(logits)
        kl, cost = self.divergence(q), self.estimator(logits, self.loss_of_codes(x, q))
        per_latent = kl.mean(dim=0)
        if self.estimator.needs_log_weight:
            return Objective(cost.mean(), cost.detach(), {"kl": per_latent.detach().sum()})
        paid = per_latent.clamp(min=self.free_bits) if self.free_bits else per_latent
        parts = {"reconstruction": cost.detach().mean(), "kl": per_latent.detach().sum()}
        loss = cost.mean() + self.kl_weight() * paid.sum()
        return Objective(loss, cost.detach() + kl.detach().sum(dim=-1), parts)

    def problem(self, batch: Images) -> Problem:
        """The encoder's logits and the loss of codes; the KL term is exact and outside, but for `Vimco`."""
        logits = self.encoder(batch.x)
        return Problem(logits, self.loss_of_codes(batch.x, self.estimator.distribution(logits)))

    def evaluate(self, x: Tensor, draws: int) -> Evaluation:
        logits = self.encoder(x)
        q, f = self.estimator.distribution(logits), self.reconstruction_loss(x)
        z = q.draw(draws)
        reconstruction = torch.stack([f(one.to(logits.dtype)) for one in z])  # one draw at a time, for memory's sake
        log_weights = (self.prior.distribution(q).log_prob(z) - q.log_prob(z)).sum(dim=-1) - reconstruction
        kl = self.prior.kl(q).sum(dim=-1, keepdim=True)
        return Evaluation(reconstruction, kl, log_weights, q.pi / q.ones, z)

    def sample_prior(self, count: int, generator: Generator | None = None) -> Tensor:
        return self.prior.distribution(self.estimator.distribution(self.prior.logits)).draw(count, generator)
