"""Variables that are not categorical, each to be brought near a target: which estimator serves a law and a loss?

    x_l ~ law(theta_l), all latents independent;   minimise E mean_l h(x_l, t_l)
    E h(x_l, t_l) = sum over nodes of weight times h(node, t_l)

The sum is exact for variables with finitely many values, to rounding for Poisson counts, and by quadrature for
Gaussians: so the loss, its gradient and its optimum are known.
"""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam

from ils_lightning.describe import create
from ils_lightning.errors import Refusal
from ils_lightning.losses_of_values import SquaredDistance, ValueLoss
from ils_lightning.modules.base import Tracked
from ils_lightning.modules.without_data import WithoutData
from ils_lightning.variables.variable_estimator import VariableEstimator

_GRID = 2401  # parameters among which the optimum is looked for


class VariableFit(WithoutData):
    """Minimises the expected loss of draws of a law, latent by latent, from draws of all latents at once.

    The gradient is the mean over `draws` independent estimates. The tracked quantity is that of the expectation itself,
    (E loss - optimum) / (E loss at the start - optimum): 1 at the start, 0 at the best parameters, looked for as far as
    `Law.farthest`.

    Args:
        estimator: of a variable's parameter; it names the law.
        loss: of a value and its target; `SquaredDistance()` unless given.
        targets: lowest and highest target; those of the latents are equally spaced.
        latents: how many.
        draws: rows of a step, all with the same parameters.
        separate: hands each latent to the estimator as a row of its own, with its own term of the mean. Expectation and
            gradient are the same; `Summed`, the exact gradient, needs it.
        chunk: optimiser steps taken in one training step of the Trainer; 1 lets Lightning do the optimisation.
        record_every: optimiser steps between points of the recorded curve; 0 records once a chunk,
            and where steps are single when the Trainer logs.
        optimizer: Adam with learning rate 0.01 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> from ils_lightning.variables import ILSNatural, Poisson
        >>> VariableFit(ILSNatural(Poisson()), latents=3).targets
        tensor([1., 3., 5.])
    """

    targets: Tensor
    tracked: Tracked = Tracked("excess", "(E loss - optimum) / that of the start")

    def __init__(
        self,
        estimator: VariableEstimator,
        loss: ValueLoss | None = None,
        targets: tuple[float, float] = (1.0, 5.0),
        latents: int = 64,
        draws: int = 32,
        separate: bool = False,
        chunk: int = 100,
        record_every: int = 0,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.01),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(None, latents, draws, separate, chunk, record_every, optimizer, lr_scheduler)
        if len(targets) != 2 or not targets[0] <= targets[1]:
            raise Refusal(f"VariableFit: targets must be the lowest and the highest; given {list(targets)}")
        self.estimator: Any = create(estimator, VariableEstimator)
        self.loss: ValueLoss = create(loss or SquaredDistance(), ValueLoss)
        self.save_hyperparameters(ignore=["estimator", "loss"])
        self.make_hyperparameters_plain(estimator=self.estimator, loss=self.loss)
        self.logits = nn.Parameter(torch.zeros(latents))
        self.register_buffer("targets", torch.linspace(*targets, latents), persistent=False)
        self._range = self._first_and_best()

    def _first_and_best(self) -> tuple[float, float]:
        """The expected loss at the start, and at the best parameter of each latent, `[latents]` of a grid."""
        law = self.estimator.family
        x, weight = law.nodes(torch.linspace(-law.farthest, law.farthest, _GRID, dtype=torch.float64))
        best = [_lowest((weight * self.loss(x, one)).sum(dim=0)) for one in self.targets.double()]
        return float(self.expected_loss(self.logits.detach())), sum(best) / len(best)

    def expected_loss(self, theta: Tensor) -> Tensor:
        """Returns E loss `[*any]` of parameters `[*any, latents]`."""
        x, weight = self.estimator.family.nodes(theta.double())
        return (weight * self.loss(x, self.targets.to(x))).sum(dim=0).mean(dim=-1)

    def of_values(self, x: Tensor) -> Tensor:
        """Returns the mean loss over latents of values x `[*any, latents]`, or each one's of `[*any, latents, 1]`."""
        if self.separate:
            return self.loss(x.squeeze(-1), self.targets.to(x))
        return self.loss(x, self.targets.to(x)).mean(dim=-1)

    def step_loss(self, x: Tensor) -> Tensor:
        """Returns the mean loss of one optimiser step; x, its number, plays no part."""
        del x
        theta = self.logits.expand(self.draws, -1)
        return self.estimator(theta.unsqueeze(-1) if self.separate else theta, self.of_values).mean()

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean loss of one optimiser step and the gradient of its parameters."""
        loss = self.step_loss(x)
        (gradient,) = torch.autograd.grad(loss, self.logits)
        return loss.detach(), gradient

    def track(self, logits: Tensor) -> Tensor:
        """Returns (E loss - optimum) / that of the start `[points]` of parameters `[points, latents]`."""
        first, best = self._range
        return ((self.expected_loss(logits) - best) / (first - best)).float()

    def predict_step(self, batch: Tensor) -> dict[str, Tensor]:
        """Returns the learnt parameters and the targets, both `[latents]`."""
        del batch
        return {"theta": self.logits.detach(), "target": self.targets}

    def histograms(self) -> dict[str, Tensor]:
        """Parameters."""
        return {"theta": self.logits.detach()}


def _lowest(values: Tensor) -> float:
    """The least of values on a grid `[points]`, or of the parabola through it and its neighbours."""
    place = int(values.argmin().clamp(1, len(values) - 2))
    left, middle, right = values[place - 1 : place + 2].tolist()
    bend = left - 2 * middle + right
    return min(left, middle, right, middle - (right - left) ** 2 / (8 * bend) if bend > 0 else middle)
