"""Variables that are not categorical, each to be brought near a target: which estimator serves a law and a loss?

    x_l ~ law(theta_l), all latents independent;   minimise E mean_l h(x_l, t_l)
    E h(x_l, t_l) = sum over nodes of weight times h(node, t_l)

The sum is exact for variables with finitely many values, to rounding for Poisson counts, and by quadrature for
Gaussians: so the loss, its gradient and its optimum are known.
"""

from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import Adam

from ils_lightning import plots
from ils_lightning.data.steps import NoData
from ils_lightning.describe import create, in_words
from ils_lightning.errors import Refusal
from ils_lightning.losses_of_values import SquaredDistance, ValueLoss
from ils_lightning.modules.base import Charts, DiscreteModule, Tracked
from ils_lightning.modules.chunked import ChunkedSteps
from ils_lightning.variables.variable_estimator import VariableEstimator

_GRID = 2401  # parameters among which the optimum is looked for


class VariableFit(ChunkedSteps, DiscreteModule):
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
    monitor = "val/excess"
    tracked: Tracked = Tracked("excess", "(E loss - optimum) / that of the start")
    charts: ClassVar[Charts] = {
        "objective": {
            "(E loss - optimum) / that of the start": ["train/excess", "val/excess"],
            "loss: of draws in training, expected in validation": ["train/loss", "val/loss"],
        },
        "training": {"norm of the gradient": ["train/gradient_norm"]},
    }

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
        super().__init__(None, optimizer, lr_scheduler)  # pyright: ignore[reportArgumentType]
        if min(latents, draws, chunk) < 1 or record_every < 0:
            raise Refusal(
                "VariableFit: latents, draws and chunk must be at least 1, record_every 0 or more; "
                f"given {latents}, {draws}, {chunk} and {record_every}"
            )
        if len(targets) != 2 or not targets[0] <= targets[1]:
            raise Refusal(f"VariableFit: targets must be the lowest and the highest; given {list(targets)}")
        self.estimator: Any = create(estimator, VariableEstimator)
        self.loss: ValueLoss = create(loss or SquaredDistance(), ValueLoss)
        self.save_hyperparameters(ignore=["estimator", "loss"])
        self.make_hyperparameters_plain(estimator=self.estimator, loss=self.loss)
        self.logits = nn.Parameter(torch.zeros(latents))
        self.register_buffer("targets", torch.linspace(*targets, latents), persistent=False)
        self.draws, self.separate = draws, separate
        self.prepare_chunks(chunk, record_every)
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

    def meet(self, data: Any, stage: str) -> None:
        """Checks that the data are nothing but steps."""
        del stage
        if data is not None and not isinstance(data, NoData):
            raise Refusal(f"VariableFit sees no data: give --data NoData; given {type(data).__name__}")

    def measures(self) -> dict[str, Tensor]:
        """Returns the tracked quantity."""
        return {"excess": self.track(self.logits.detach())}

    def training_step(self, batch: Tensor) -> Tensor | None:
        """Takes as many optimiser steps as the batch holds, the last batch being cut at the Trainer's max_steps."""
        return self.take_steps(batch)

    def validation_step(self, batch: Tensor) -> None:
        """Measures the expected loss."""
        del batch
        self._measure("val")
        self.log("step", float(self.global_step), on_epoch=True, on_step=False, batch_size=1, sync_dist=True)

    def test_step(self, batch: Tensor) -> None:
        """Measures the expected loss."""
        del batch
        self._measure("test")

    def predict_step(self, batch: Tensor) -> dict[str, Tensor]:
        """Returns the learnt parameters and the targets, both `[latents]`."""
        del batch
        return {"theta": self.logits.detach(), "target": self.targets}

    def _measure(self, stage: str) -> None:
        theta = self.logits.detach()
        values = {f"{stage}/loss": self.expected_loss(theta).float(), f"{stage}/excess": self.track(theta)}
        self.log_dict(values, on_epoch=True, on_step=False, batch_size=1, sync_dist=True)

    def figures(self) -> dict[str, Figure]:
        """The curve so far."""
        return {"curve": plots.curve(*self.curve(), in_words(self.estimator), self.tracked.label)}

    def histograms(self) -> dict[str, Tensor]:
        """Parameters."""
        return {"theta": self.logits.detach()}

    def summary(self) -> dict[str, str]:
        """The tracked quantity at the first and last recorded step."""
        _, values = self.curve()
        return {"estimator": in_words(self.estimator), self.tracked.label: f"{values[0]:.4f} -> {values[-1]:.4f}"}


def _lowest(values: Tensor) -> float:
    """The least of values on a grid `[points]`, or of the parabola through it and its neighbours."""
    place = int(values.argmin().clamp(1, len(values) - 2))
    left, middle, right = values[place - 1 : place + 2].tolist()
    bend = left - 2 * middle + right
    return min(left, middle, right, middle - (right - left) ** 2 / (8 * bend) if bend > 0 else middle)
