"""Polynomial programming (Tucker et al., 2017, 1703.07370; Liu et al., 2023, 2304.08612).

    theta_l ~ U(-.01, .01), pi_l = softmax(theta_l) over two categories, z_l ~ pi_l;   minimise E 1/L sum_l |z_l - c|^p
    with z_l the first component of the draw. In closed form
    E |z_l - c|^p = pi_l1 (1 - c)^p + pi_l2 c^p,   d E / d theta_l = J(pi_l) ((1 - c)^p, c^p)

A second-order rule with two categories has the gradient times p/2 ((1 - c)^(p-1) - c^(p-1)) / ((1 - c)^p - c^p) for its
expectation, whatever pi; Adam does not see that factor. Second-order and unbiased estimators thus leave the exact curve
by their noise alone, first-order ones by their bias.
"""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam

from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator
from ils_lightning.modules.base import Problem, Tracked, require_one_category
from ils_lightning.modules.without_data import WithoutData


class Polynomial:
    """f(z) = mean over latents of |z_l - c|^p, for z `[*rows, latents, 2]` and its first component z_l.

    Args:
        power: p.
        centre: c.
    """

    def __init__(self, power: float, centre: float) -> None:
        self.power, self.centre = power, centre

    def __call__(self, z: Tensor) -> Tensor:
        return (z[..., 0] - self.centre).abs().pow(self.power).mean(dim=-1)

    def closed_form_gradient(self, z: Tensor) -> Tensor:
        """Returns df/dz, of the shape of z; f does not look at the second component."""
        apart = z[..., 0] - self.centre
        slope = self.power * apart.abs().pow(self.power - 1) * apart.sign() / z.shape[-2]
        return torch.stack([slope, torch.zeros_like(slope)], dim=-1)

    def of_categories(self) -> Tensor:
        """Returns |z_l - c|^p of each category, `[2]`."""
        return torch.tensor([1 - self.centre, self.centre]).abs().pow(self.power)


class PolynomialProgramming(WithoutData):
    """Minimises the expected distance |z - c|^p of draws to a point that no draw reaches.

    The gradient is the mean over `draws` independent estimates. The tracked quantity is that of the exact expectation,
    (E loss - optimum) / range, the range being that of the vertices: 0 at the best vertex, 1 at the worst.

    Args:
        estimator: any estimator.
        power: p, greater than 1: the loss needs a slope everywhere.
        centre: c, between 0 and 1 and not halfway.
        latents: L.
        draws: rows of a step, all with the same logits.
        separate: hands each latent to the estimator as a row of its own, with its own term of the sum. Expectation and
            gradient are the same, since the loss is a sum. `Exact` needs it: it then adds up 2 states of every latent
            instead of 2 ** latents, which is the closed form above; score-function estimators lose the other latents'
            noise by it.
        chunk: optimiser steps taken in one training step of the Trainer; 1 lets Lightning do the optimisation.
        record_every: optimiser steps between points of the recorded curve; 0 records once a chunk,
            and where steps are single when the Trainer logs.
        optimizer: Adam with learning rate 0.001 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> PolynomialProgramming(estimator=ReinMax(), power=3.0).logits.shape
        torch.Size([128, 2])
    """

    tracked: Tracked = Tracked("excess", "(E loss - optimum) / range")

    def __init__(
        self,
        estimator: Estimator,
        power: float = 2.0,
        centre: float = 0.45,
        latents: int = 128,
        draws: int = 64,
        separate: bool = False,
        chunk: int = 100,
        record_every: int = 0,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.001),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(estimator, latents, draws, separate, chunk, record_every, optimizer, lr_scheduler)
        if not 1 < power < float("inf") or not 0 < centre < 1 or centre == 0.5:
            raise Refusal(
                "PolynomialProgramming: power must be greater than 1 and finite, centre between 0 and 1 and not 0.5 "
                f"(where both vertices are optimal); given {power} and {centre}"
            )
        require_one_category("PolynomialProgramming", self.estimator)
        self.save_hyperparameters(ignore=["estimator"])
        self.make_hyperparameters_plain(estimator=self.estimator)
        self.loss = Polynomial(power, centre)
        self.logits = nn.Parameter(torch.empty(latents, 2).uniform_(-0.01, 0.01))
        self.estimator.build(1 if separate else latents, 2)
        self.needs_no_graph = self.estimator.closed_form

    def _rows(self) -> Tensor:
        """The logits as the estimator sees them: `[draws, latents, 2]`, or `[draws, latents, 1, 2]` if separate."""
        logits = self.logits.unsqueeze(-2) if self.separate else self.logits
        return logits.expand(self.draws, *logits.shape)

    def step_loss(self, x: Tensor) -> Tensor:
        """Returns the mean loss of one optimiser step; x, its number, plays no part."""
        del x
        return self.estimator(self._rows(), self.loss).mean()

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean loss of one optimiser step and its gradient to the logits, without autograd."""
        del x
        loss, estimate = self.estimator.estimate(self._rows().detach(), self.loss)
        return loss.mean(), estimate.sum(dim=0).reshape(self.logits.shape) / loss.numel()

    def problem(self, batch: Tensor) -> Problem:
        """The rows of one step, all with the same logits."""
        del batch
        return Problem(self._rows(), self.loss)

    def expected_loss(self, logits: Tensor) -> Tensor:
        """Returns E loss `[*rows]` of logits `[*rows, latents, 2]`, in closed form, for draws of the estimator's."""
        pi = self.estimator.distribution(logits).pi
        return (pi @ self.loss.of_categories().to(pi)).mean(dim=-1)

    def track(self, logits: Tensor) -> Tensor:
        """Returns (E loss - optimum) / range `[points]` of snapshots `[points, latents, 2]`."""
        low, high = self.loss.of_categories().sort().values
        return (self.expected_loss(logits) - low) / (high - low)

    def meet(self, data: Any, stage: str) -> None:
        """Checks that the estimator is defined for the problem, and that the data are nothing but steps."""
        super().meet(data, stage)
        self.estimator.check(self._rows())

    def predict_step(self, batch: Tensor) -> dict[str, Tensor]:
        """Returns the learnt probabilities `[latents, 2]`."""
        del batch
        return {"learnt": self.estimator.distribution(self.logits).pi}

    def histograms(self) -> dict[str, Tensor]:
        """Probabilities of the first category, and logits."""
        logits = self.logits.detach()
        return {"probabilities": self.estimator.distribution(logits).pi[:, 0], "logits": logits}
