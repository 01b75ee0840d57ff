"""Estimators with one deliberate mistake each, which the contract must reject: the test of the tests.

`rejected` names the moments that must fall on the loss `rejected_on`, and no others may.
"""

from typing import ClassVar

import torch
from torch import Tensor

from ils_lightning.estimators import Estimator, LeaveOneOut, Loss, Reinforce, ReinMax, StraightThrough
from ils_lightning.estimators.base import evaluate
from ils_lightning.estimators.categorical import draw, jacobian, one_hot, softmax


class FlippedReinMax(ReinMax):
    """The sign of the last term flipped."""

    rejected_on: ClassVar[str] = "quadratic"
    rejected: ClassVar[set[str]] = {"gradient"}

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        return 2 * jacobian((pi + z) / 2, g) + jacobian(pi, g) / 2


class ScaledLeaveOneOut(LeaveOneOut):
    """Five per cent too long."""

    rejected_on: ClassVar[str] = "mlp"
    rejected: ClassVar[set[str]] = {"gradient"}

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        loss, estimate = super().estimate(logits, f)
        return loss, 1.05 * estimate


class ScaledStraightThrough(StraightThrough):
    """One part in 10 000 too long, on the loss where it has no variance."""

    rejected_on: ClassVar[str] = "linear"
    rejected: ClassVar[set[str]] = {"gradient"}

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        return 1.0001 * super().pullback(logits, pi, z, g)


class BiasedDraw(Estimator):
    """Draws from softmax(logits / 1.05): the score is right, the draws are not."""

    rejected_on: ClassVar[str] = "mlp"
    rejected: ClassVar[set[str]] = {"loss", "gradient", "theta"}

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = softmax(logits.detach())
        tempered = softmax(logits.detach() / 1.05)
        index = torch.multinomial(tempered.flatten(0, -2), 1).reshape(pi.shape[:-1])
        z = one_hot(index, pi)
        loss = evaluate(f, z.unsqueeze(0)).squeeze(0)
        return loss, loss.detach()[..., None, None] * (z - pi)


class TrainsOnMean(Estimator):
    """Reinforce whose parameter inside f also hears an evaluation at the mean pi."""

    rejected_on: ClassVar[str] = "mlp"
    rejected: ClassVar[set[str]] = {"theta"}

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        loss, estimate = Reinforce().estimate(logits, f)
        relaxed = evaluate(f, softmax(logits.detach()).unsqueeze(0)).squeeze(0)
        return loss + relaxed - relaxed.detach(), estimate


class LearntBaseline(Estimator):
    """Reinforce whose constant baseline is learnt: the least estimator with a parameter of its own."""

    unbiased = True
    exact_for = "all"

    def __init__(self) -> None:
        super().__init__()
        self.baseline = torch.nn.Parameter(torch.tensor(0.3))

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = softmax(logits.detach())
        z = draw(pi)
        loss = evaluate(f, z.unsqueeze(0)).squeeze(0)
        return loss, (loss.detach() - self.baseline)[..., None, None] * (z - pi)


class TrainedOnTheLoss(LearntBaseline):
    """Its parameter receives dloss."""

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        loss, estimate = super().estimate(logits, f)
        return loss + self.baseline - self.baseline.detach(), estimate


class TrainsTheModel(LearntBaseline):
    """The parameter inside f hears |estimate|^2, because the loss in the estimate is not detached."""

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        loss, estimate = super().estimate(logits, f)
        square = (loss - loss.detach()) * estimate.square().sum(dim=(-2, -1)).detach()
        return loss + square, estimate


MUTANTS = [FlippedReinMax, ScaledLeaveOneOut, ScaledStraightThrough, BiasedDraw, TrainsOnMean]
