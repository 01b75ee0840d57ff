"""The discrete variational autoencoder with several layers of categorical latents, estimators nested in estimators.

    q(z_1 | x) q(z_2 | z_1) ... q(z_L | z_{L-1}),    p(z_L) p(z_{L-1} | z_L) ... p(z_1 | z_2) p(x | z_1)
    -ELBO(x) = E_{z_1}[ -log p(x | z_1)       + F_2(z_1) ] - H(q(z_1 | x))
    F_l(z_{l-1}) = E_{z_l}[ -log p(z_{l-1} | z_l) + F_{l+1}(z_l) ] - H(q(z_l | z_{l-1})),   1 < l < L
    F_L(z_{L-1}) = E_{z_L}[ -log p(z_{L-1} | z_L) ] + KL(q(z_L | z_{L-1}) || p(z_L))

Every expectation is an estimator's; the loss given to that of layer l calls that of layer l + 1. Entropies and the last
KL are exact: outside their own layer's estimator, inside that of the layer below. All terms are differentiable in the
draws they see: log p(z | .) = sum_lk z_lk log p_lk is linear in z, for relaxed draws too.

Source: layers inferred from the image up, Mnih and Gregor, 2014 (1402.0030); two-layer models of Tucker et al., 2017
(1703.07370).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Generator, Tensor, nn
from torch.optim import Adam

from ils_lightning.data.images import Images
from ils_lightning.describe import create, describe, in_words
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator
from ils_lightning.estimators.distribution import Distribution
from ils_lightning.likelihoods import Likelihood
from ils_lightning.modules.base import Problem
from ils_lightning.modules.code_measures import Evaluation
from ils_lightning.modules.prior import Prior
from ils_lightning.modules.variational_autoencoder import Objective, VariationalAutoencoder
from ils_lightning.networks import MLP, Network


class HierarchicalVAE(VariationalAutoencoder):
    """Learns codes of images in layers: the codes of a layer are explained by those of the next.

    Args:
        estimator: any estimator; every layer has one of its own, made alike. `OptionSchedule` reaches the first by
            `estimator.temperature`, the next by `upper_estimators.0.temperature`.
        latents: categorical variables of each layer, from the image up.
        categories: values of each.
        encoder: images to logits of the first layer; `MLP([128])` unless given.
        decoder: one-hot codes of the first layer to the likelihood's parameters; `MLP([128])` unless given.
        upper_encoder: codes of a layer to logits of the next; one is made for each; `MLP([128])` unless given.
        upper_decoder: codes of a layer to logits of the one below; one is made for each; `MLP([128])` unless given.
        likelihood: of pixels; `Bernoulli()` unless given.
        prior: of the last layer's codes; `UniformPrior()` unless given.
        kl_warmup: optimiser steps in which the weight of all terms but -log p(x | z_1) rises from 0 to 1; 0 for none.
            Until then the recorded training loss is the weighted one.
        kl_delay: optimiser steps before that in which the weight is 0. A weight however small may flatten all codes in
            the first steps, for Adam scales the gradients of an encoder that nothing is asked of yet.
        bias_from_data: start with a decoder whose bias alone describes the mean training image. Without it the first
            steps push every image to one code, under any estimator, the exact gradient included.
        draws: exact draws an image for -ELBO at test.
        importance_samples: draws an image for the importance-weighted bound at test (Burda et al., 2016, 1509.00519).
        image_shape: [channels, height, width]; taken from the data unless given.
        optimizer: Adam with learning rate 0.001 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> model = HierarchicalVAE(estimator=ReinMax(), latents=[8, 4], image_shape=[1, 8, 8])
        >>> model.sample(3).shape
        torch.Size([3, 1, 8, 8])
    """

    def __init__(
        self,
        estimator: Estimator,
        latents: Sequence[int] = (8, 4),
        categories: int = 4,
        encoder: Network | None = None,
        decoder: Network | None = None,
        upper_encoder: Network | None = None,
        upper_decoder: Network | None = None,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        kl_warmup: int = 0,
        bias_from_data: bool = True,
        draws: int = 50,
        importance_samples: int = 50,
        image_shape: list[int] | None = None,
        kl_delay: int = 0,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.001),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        if len(latents) < 2 or min(latents) < 1:
            raise Refusal(
                "HierarchicalVAE: latents names at least two layers of at least 1 latent each (DiscreteVAE has one "
                f"layer); given {list(latents)}"
            )
        upper = create(upper_encoder or MLP([128]), Network), create(upper_decoder or MLP([128]), Network)
        super().__init__(
            estimator,
            (encoder, decoder),
            likelihood,
            prior,
            (latents[0], categories),
            kl_warmup,
            bias_from_data,
            draws,
            importance_samples,
            optimizer,
            lr_scheduler,
        )
        if self.estimator.needs_log_weight:
            raise Refusal(
                f"HierarchicalVAE nests means over draws, and the loss of {in_words(self.estimator)} is none but a "
                "bound: LeaveOneOut serves here, DiscreteVAE takes the bound"
            )
        self.delay_kl(kl_delay)
        objects = {"estimator": self.estimator, "likelihood": self.likelihood, "prior": self.prior}
        objects |= {"encoder": self.encoder, "decoder": self.decoder}
        objects |= {"upper_encoder": upper[0], "upper_decoder": upper[1], "latents": list(latents)}
        self.save_hyperparameters(ignore=list(objects))
        self.make_hyperparameters_plain(**objects)
        self._make_layers(list(latents), categories, *upper)
        self.prior.build(latents[-1], categories)
        self.layers = len(latents)
        self.prepare_metrics(sum(latents))
        if image_shape:
            self.build(image_shape)

    def _make_layers(self, latents: list[int], categories: int, encoder: Network, decoder: Network) -> None:
        self.upper_estimators, self.upper_encoders, self.upper_decoders = (nn.ModuleList() for _ in range(3))
        for below, above in pairwise(latents):
            estimator = create(describe(self.estimator), Estimator)
            estimator.build(above, categories)
            up, down = create(describe(encoder), Network), create(describe(decoder), Network)
            up.build((below, categories), (above, categories))
            down.build((above, categories), (below, categories))
            self.upper_estimators.append(estimator)
            self.upper_encoders.append(up)
            self.upper_decoders.append(down)

    def posterior(self, layer: int, logits: Tensor) -> Distribution:
        """Returns what codes of a layer, numbered from 0 at the image, are drawn from given their logits."""
        estimators: Any = self.upper_estimators
        return (self.estimator if layer == 0 else estimators[layer - 1]).distribution(logits)

    def conditional(self, layer: int, u: Tensor) -> Distribution:
        """Returns p(z | u) of a layer's codes given those of the layer above it."""
        networks: Any = self.upper_decoders
        logits = networks[layer](u)
        return self.posterior(layer, logits).alike(logits)

    def explained(self, layer: int, z: Tensor) -> Callable[[Tensor], Tensor]:
        """Returns f(u) = -log p(z | u) + F(u), u being the codes of the layer above that of z, number `layer` + 1.

        F is what the layers above u cost.
        """
        top = layer == self.layers - 2

        def loss(u: Tensor) -> Tensor:
            cost = -self.conditional(layer, u).log_prob(z).sum(dim=-1)
            return cost if top else cost + self.cost_above(layer + 1, u)

        return loss

    def cost_above(self, layer: int, z: Tensor) -> Tensor:
        """Returns F(z) `[*any]`: what the layers above that number `layer` cost, z being its codes."""
        encoders: Any = self.upper_encoders
        logits = encoders[layer](z)
        q = self.posterior(layer + 1, logits)
        expected = self.upper_estimators[layer](logits, self.explained(layer, z))
        if layer == self.layers - 2:
            return expected + self.divergence(q).sum(dim=-1)
        return expected - q.entropy().sum(dim=-1)

    def objective(self, x: Tensor) -> Objective:
        logits, weight = self.encoder(x), self.kl_weight()

        def loss(z: Tensor) -> Tensor:
            return weight * self.cost_above(0, z) - self.likelihood.log_prob(self.decoder(z), x)

        negative_elbo = self.estimator(logits, loss) - weight * self.posterior(0, logits).entropy().sum(dim=-1)
        return Objective(negative_elbo.mean(), negative_elbo.detach(), {})

    def problem(self, batch: Images) -> Problem:
        """What the last layer's estimator is asked, given one draw of the layers below."""
        encoders: Any = self.upper_encoders
        estimators: Any = self.upper_estimators
        logits, z = self.encoder(batch.x), torch.zeros(0)
        for layer, encoder in enumerate(encoders):
            z = self.posterior(layer, logits.detach()).draw()
            logits = encoder(z)
        return Problem(logits, self.explained(self.layers - 2, z), estimators[-1])

    def evaluate(self, x: Tensor, draws: int) -> Evaluation:
        encoders: Any = self.upper_encoders
        q = self.posterior(0, self.encoder(x))
        pi, z, kl = [q.pi / q.ones], [q.draw(draws)], []
        log_q, log_p = q.log_prob(z[0]).sum(dim=-1), torch.zeros(())
        for layer, encoder in enumerate(encoders):
            above = self.posterior(layer + 1, encoder(z[-1]))
            pi.append(above.pi / q.ones)
            z.append(above.draw())
            explained = self.conditional(layer, z[-1]).log_prob(z[-2]).sum(dim=-1)
            kl.append(-q.entropy().sum(dim=-1) - explained)
            log_q, log_p, q = log_q + above.log_prob(z[-1]).sum(dim=-1), log_p + explained, above
        kl.append(self.prior.kl(q).sum(dim=-1))
        log_p = log_p + self.prior.distribution(q).log_prob(z[-1]).sum(dim=-1)
        reconstruction = torch.stack([-self.likelihood.log_prob(self.decoder(one), x) for one in z[0]])
        posterior = torch.cat([pi[0], *(one.mean(dim=0) for one in pi[1:])], dim=-2)
        return Evaluation(
            reconstruction,
            torch.stack(kl, dim=-1).mean(dim=0),
            log_p - log_q - reconstruction,
            posterior,
            torch.cat(z, dim=-2),
        )

    def sample_prior(self, count: int, generator: Generator | None = None) -> Tensor:
        logits = self.prior.logits
        z = self.prior.distribution(self.posterior(self.layers - 1, logits)).draw(count, generator)
        for layer in reversed(range(self.layers - 1)):
            z = self.conditional(layer, z).draw(generator=generator)
        return z
