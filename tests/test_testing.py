"""The exported laws: each rejects an estimator that breaks it, and says which rule."""

from collections.abc import Sequence

import pytest
import torch
from mutants import BiasedDraw, FlippedReinMax
from torch import Tensor

from ils_lightning.estimators import Estimator, LeaveOneOut, Loss, MovingAverage, Reinforce, ReinMax, StraightThrough
from ils_lightning.testing import LAWS, Recording, formula


class InDouble(LeaveOneOut):
    """Forgets the dtype of the logits."""

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        return super().estimate(logits.double(), f)


class ClaimsTooLittle(ReinMax):
    """Is exact for quadratics and does not say so."""

    exact_for = "linear"  # type: ignore[assignment]


class SeesTheUpstream(StraightThrough):
    """A gradient of length 1, whatever the loss weighs."""

    def forward(self, logits: Tensor, f: Loss) -> Tensor:
        own = logits + 0
        if own.requires_grad:
            own.register_hook(lambda g: torch.nn.functional.normalize(g, dim=-1))
        return super().forward(own, f)


class LessTheMean(StraightThrough):
    """Takes the mean over rows away and does not say that it pools."""

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        return super().pullback(logits, pi, z, g - g.mean(dim=0, keepdim=True))


class Twice(StraightThrough):
    """Evaluates f once more than it says."""

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        return super().estimate(logits, lambda z: (f(z) + f(z)) / 2)

    def forward(self, logits: Tensor, f: Loss) -> Tensor:
        return super().forward(logits, lambda z: (f(z) + f(z)) / 2)


class CountsInEvaluation(StraightThrough):
    """Changes its state in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("counted_calls", torch.zeros(()))

    def forward(self, logits: Tensor, f: Loss) -> Tensor:
        self.counted_calls += 1
        return super().forward(logits, f)


class LearnsFirst(Reinforce):
    """Its moving average has seen the present losses."""

    def __init__(self) -> None:
        super().__init__(baseline=MovingAverage())

    def _baseline(self, logits: Tensor, loss: Tensor) -> Tensor | float:
        super()._baseline(logits, loss)
        return super()._baseline(logits, loss)


class MeanOfAll(Reinforce):
    """Its baseline is the mean loss of the batch, the row's own among them."""

    pooled = True

    def __init__(self) -> None:
        super().__init__()
        self.pooled = True

    def _baseline(self, logits: Tensor, loss: Tensor) -> Tensor | float:
        del logits
        return loss.detach().mean()


class Divides(StraightThrough):
    """Divides by probabilities that may be zero."""

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        return super().pullback(logits, pi, z, g) / pi


class Unchecked(Reinforce):
    """Looks at neither logits nor losses."""

    def forward(self, logits: Tensor, f: Loss) -> Tensor:
        return f(logits.softmax(dim=-1).unsqueeze(0)).squeeze(0)


BROKEN: list[tuple[type[Estimator], str, str]] = [
    (InDouble, "shapes", "keep the dtype"),
    (FlippedReinMax, "declarations", "on the linear loss"),
    (ClaimsTooLittle, "declarations", 'exact_for = "linear", but on the quadratic loss'),
    (BiasedDraw, "losses", "declares hard = True"),
    (SeesTheUpstream, "scale", "as many times their gradient"),
    (Twice, "evaluations", "evaluations says 1 of each row; there were 2"),
    (LessTheMean, "rows", "declares pooled = False"),
    (CountsInEvaluation, "state", "must leave counted_calls"),
    (LearnsFirst, "learning", "read the state before the step's own draws change it"),
    (MeanOfAll, "few_rows", "with 4 rows a step"),
    (Divides, "edges", "finite gradients"),
    (Unchecked, "refusals", "one number for all rows must be a ValueError"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "law", "rule"), BROKEN)
def test_a_broken_estimator_is_rejected(broken: type[Estimator], law: str, rule: str):
    with pytest.raises(AssertionError, match=rule):
        next(one for one in LAWS if one.__name__ == law)(broken)


def test_every_law_has_a_broken_estimator():
    assert {law.__name__ for law in LAWS} == {law for _, law, _ in BROKEN}


def score_times_loss(estimator: Reinforce, recordings: Sequence[Recording]) -> Tensor:
    """Reinforce without a baseline, by the book."""
    del estimator
    last = recordings[-1]
    (z,) = last.draws
    return (last.f(z)[..., None, None] * (z - last.logits.softmax(dim=-1))).mean(dim=0)


def test_formula_law_in_both_directions():
    formula(lambda: Reinforce(samples=2), score_times_loss)
    with pytest.raises(AssertionError, match=r"must equal its slow form; in step 1 with \d rows of"):
        formula(lambda: LeaveOneOut(samples=2), score_times_loss)


def test_formula_law_sees_what_is_learnt():
    with pytest.raises(AssertionError, match="in step 2"):  # in the first the moving average is zero
        formula(lambda: Reinforce(baseline=MovingAverage()), score_times_loss)
