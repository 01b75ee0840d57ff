"""Neural relational inference: which particles act on each other, learnt from how they move.

    z_e ~ softmax(encoder(x)_e), a spring or none, for each directed edge e
    -ELBO = E f(z) + KL(q || uniform),   f(z) = sum_t |x_t - decoder(x, z)_t|^2 / (2 variance)

The decoder predicts `steps` points in a row from every true point it starts from, so that what it gets wrong about the
graph adds up. f leaves out the constant of the normal density, as the published code does.

Source: T. Kipf, E. Fetaya, K.-C. Wang, M. Welling, R. Zemel, 2018, 1802.04687; there Gumbel-Softmax(0.5) is the
estimator, particles 5, points 49, steps 10, units 256, variance 5e-5 and Adam's learning rate 5e-4.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import Adam

from ils_lightning.data.spring_simulation import directed_edges
from ils_lightning.data.trajectory_set import Trajectories
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators import Estimator
from ils_lightning.estimators.distribution import Distribution
from ils_lightning.modules.base import Problem, require_one_category
from ils_lightning.modules.measured_graphs import MeasuredGraphs
from ils_lightning.modules.meets_data import DataSize
from ils_lightning.modules.prior import UniformPrior
from ils_lightning.networks.relations import EdgeEncoder, InteractionDecoder

_TYPES = 2  # no spring, a spring


class RelationalInference(MeasuredGraphs):
    """Learns the graph of each simulation, N (N - 1) directed edges as published, and how particles move along it.

    Reported are -ELBO of drawn graphs in nats (`loss`) and its part `kl`; the share of directed edges whose most
    probable type is not the true one (`wrong_edges`: one minus the published accuracy); and, along the most probable
    graph, the mean squared error of later points, of which the encoder has seen nothing: each predicted from the one
    before (`one_step_error`), and all in a row from the last point seen (`rollout_error`).

    Args:
        estimator: any estimator.
        encoder_units: units of the encoder's layers.
        decoder_units: units of the decoder's layers.
        steps: points that are predicted in a row in training.
        variance: of the normal density of each value.
        kl_start: weight of the KL term at the first step; far above 1 it keeps graphs open while the decoder learns.
        kl_fall: optimiser steps in which that weight goes to 1, in a straight line.
        trajectory_shape: [particles, points, values]; taken from the data unless given.
        optimizer: Adam with learning rate 0.004 unless given.
        lr_scheduler: none unless given.

    Raises:
        ValueError: when a number is out of its range.

    Example:
        >>> from ils_lightning.estimators import GumbelSoftmax
        >>> model = RelationalInference(estimator=GumbelSoftmax(0.5), trajectory_shape=[4, 25, 4])
        >>> model.logits(torch.randn(3, 4, 25, 4)).shape
        torch.Size([3, 12, 2])
    """

    trajectory_shape: tuple[int, ...] = ()
    sized_by = DataSize(
        "trajectory_shape", 3, "trajectories [particles, points, values]", "trajectories, such as --data Springs"
    )

    def __init__(
        self,
        estimator: Estimator,
        encoder_units: int = 64,
        decoder_units: int = 32,
        steps: int = 8,
        variance: float = 5e-5,
        kl_start: float = 1.0,
        kl_fall: int = 300,
        trajectory_shape: list[int] | None = None,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.004),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(estimator, optimizer, lr_scheduler)
        name = type(self).__name__
        require_at_least(1, name, encoder_units=encoder_units, decoder_units=decoder_units, steps=steps)
        if not 0 < variance < math.inf:
            raise Refusal(f"{name}: variance must be greater than 0 and finite; given {variance}")
        require_one_category(name, self.estimator)
        require_at_least(0, name, kl_start=kl_start)
        require_at_least(1, name, kl_fall=kl_fall)
        if kl_start != 1 and self.estimator.needs_log_weight:
            raise Refusal(
                f"{name}: {type(self.estimator).__name__} minimises a bound of its own, in which the KL term has no "
                f"weight: kl_start must be 1; given {kl_start}"
            )
        self.kl_start, self.kl_fall = kl_start, kl_fall
        self.encoder_units, self.decoder_units = encoder_units, decoder_units
        self.steps, self.variance = steps, variance
        self.save_hyperparameters(ignore=["estimator"])
        self.make_hyperparameters_plain(estimator=self.estimator)
        self.prior = UniformPrior()
        self.prepare_measures()
        if trajectory_shape:
            self.build(trajectory_shape)

    def make(self, size: tuple[int, ...]) -> None:
        """Makes the networks for trajectories [particles, points, values].

        Raises:
            ValueError: when there is no pair, no second point, or values are not a position and a velocity in a plane.
        """
        particles, points, values = size
        if particles < 2 or points < 2 or values != 4:
            raise Refusal(
                f"{type(self).__name__} needs trajectories of at least 2 particles and 2 points, of 4 values: position "
                f"and velocity in a plane; given [particles, points, values] = {list(size)}"
            )
        self.encoder = EdgeEncoder(particles, points * values, self.encoder_units, _TYPES)
        self.decoder = InteractionDecoder(particles, self.decoder_units)
        latents = self.latents(particles)
        self.estimator.build(latents, _TYPES)
        self.estimator.check(torch.zeros(1, latents, _TYPES))
        self.prior.build(latents, _TYPES)

    def latents(self, particles: int) -> int:
        """How many edges a graph has whose types are drawn."""
        return particles * (particles - 1)

    def of_directions(self, logits: Tensor) -> Tensor:
        """Returns the logits `[batch, latents, 2]` that follow from those of directed edges `[batch, edges, 2]`."""
        return logits

    def to_directions(self, spring: Tensor) -> Tensor:
        """Returns how much of a spring directed edges are, `[*any, edges]`, given that of latents `[*any, latents]`."""
        return spring

    def logits(self, x: Tensor) -> Tensor:
        """Returns the logits `[batch, latents, 2]` of trajectories `[batch, particles, points, 4]`.

        Raises:
            ValueError: for trajectories of another shape than the networks were made for.
        """
        if tuple(x.shape[1:]) != self.trajectory_shape:
            raise Refusal(
                f"{type(self).__name__} was made for trajectories [particles, points, values] = "
                f"{list(self.trajectory_shape)}; these are {list(x.shape[1:])}"
            )
        return self.of_directions(self.encoder(x))

    def loss_of_graphs(self, x: Tensor, q: Distribution) -> Callable[[Tensor], Tensor]:
        """Returns f(z), which the estimator calls; minus the whole log-weight for bounds that are made of weights."""

        def f(z: Tensor) -> Tensor:
            predicted = self.decoder.predict(x, self.springs(z), self.steps)
            error = (predicted - x[..., 1:, :]).float().square()
            return error.sum(dim=(-3, -2, -1)) / (2 * self.variance)

        if not self.estimator.needs_log_weight:
            return f
        p = self.prior.distribution(q)
        return lambda z: f(z) + (q.log_prob(z) - p.log_prob(z)).sum(dim=-1)

    def springs(self, z: Tensor) -> Tensor:
        """Returns how much of a spring each directed edge is, `[*any, edges]`, of types `[*any, latents, 2]`."""
        return self.to_directions(z[..., 1]).to(self.decoder.message.weight.dtype)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses the checkpoint of another number of particles, whose weights would fit."""
        super().on_load_checkpoint(checkpoint)
        saved = tuple(checkpoint.get("hyper_parameters", {}).get("trajectory_shape", ()))
        if self.is_built and saved and saved != self.trajectory_shape:
            raise Refusal(
                f"{type(self).__name__}: the checkpoint is of trajectories [particles, points, values] = "
                f"{list(saved)}; these are {list(self.trajectory_shape)}"
            )

    def problem(self, batch: Trajectories) -> Problem:
        """The encoder's logits and the loss of graphs; the KL term is exact and outside, but for `Vimco`."""
        logits = self.logits(batch.x)
        return Problem(logits, self.loss_of_graphs(batch.x, self.estimator.distribution(logits)))

    def kl_weight(self, step: int) -> float:
        """The weight of the KL term at an optimiser step."""
        return 1 + (self.kl_start - 1) * max(0.0, 1 - step / self.kl_fall)

    def training_step(self, batch: Trajectories) -> Tensor:
        """Returns the loss; logged is -ELBO, whatever the weight of the KL term."""
        logits, f, _ = self.problem(batch)
        cost = self.estimator(logits, f)
        if self.estimator.needs_log_weight:
            self.log_training(cost)
            return cost.mean()
        kl = self.prior.kl(self.estimator.distribution(logits)).sum(dim=-1)
        self.log_training((cost + kl).detach(), kl=kl.detach().mean())
        return (cost + self.kl_weight(self.global_step) * kl).mean()

    def predict_step(self, batch: Trajectories) -> dict[str, Tensor]:
        """Returns the most probable types of directed edges `[batch, edges]`, and later points predicted in a row."""
        spring = self.springs(self.estimator.distribution(self.logits(batch.x)).mode())
        later = self.decoder.rollout(batch.x[..., -1:, :], spring, batch.future.shape[-2])
        return {"edges": spring.long(), "later": later}

    def size_of(self, data: Any) -> Sequence[int] | None:
        return getattr(data, "trajectory_shape", None)


class UndirectedRelationalInference(RelationalInference):
    """Neural relational inference with one type for both directions of a pair.

    That makes N (N - 1) / 2 latents in place of twice as many: the 64 graphs of 4 particles can be summed in training.
    The logits of a pair are the mean of those of its directions. Options are those of `RelationalInference`.

    Example:
        >>> model = UndirectedRelationalInference(estimator="Exact", trajectory_shape=[4, 25, 4])
        >>> model.logits(torch.randn(3, 4, 25, 4)).shape
        torch.Size([3, 6, 2])
    """

    pair: Tensor

    def make(self, size: tuple[int, ...]) -> None:
        """Makes the networks, and numbers the pairs."""
        super().make(size)
        receiver, sender = directed_edges(size[0])
        low, high = torch.minimum(receiver, sender), torch.maximum(receiver, sender)
        _, pair = (low * size[0] + high).unique(return_inverse=True)
        self.register_buffer("pair", pair, persistent=False)

    def latents(self, particles: int) -> int:
        return particles * (particles - 1) // 2

    def of_directions(self, logits: Tensor) -> Tensor:
        pairs = logits.new_zeros(len(logits), logits.shape[1] // 2, logits.shape[2])
        return pairs.index_add(1, self.pair, logits) / 2

    def to_directions(self, spring: Tensor) -> Tensor:
        return spring.index_select(-1, self.pair)
