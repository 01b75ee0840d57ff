"""The gradient problem of a draw inside other code, against the problem written by hand."""

import pytest
import torch
from torch import Tensor, nn

from ils_lightning.diagnose import gradient_report, problem_of_draw
from ils_lightning.distributions import OneHotCategorical
from ils_lightning.estimators import Exact, ReinMax
from ils_lightning.functional import sample
from ils_lightning.layers import Quantizer, Router


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LOGITS, WEIGHT = randn(5, 2, 3), randn(2, 3, seed=1)


def by_hand(z: Tensor) -> Tensor:
    return ((z * WEIGHT).sum((-2, -1)) - 0.3).square()


@pytest.mark.parametrize(
    "draw", [lambda: OneHotCategorical(logits=LOGITS, estimator="ReinMax").rsample(), lambda: sample(LOGITS, "ReinMax")]
)
def test_loss_and_logits_are_those_written_by_hand(draw):
    problem = problem_of_draw(lambda: by_hand(draw()))
    z = nn.functional.one_hot(torch.randint(3, (7, 5, 2)), 3).float()
    torch.testing.assert_close(problem.loss(z), by_hand(z))
    torch.testing.assert_close(problem.logits.softmax(-1), LOGITS.softmax(-1))
    assert isinstance(problem.estimator, ReinMax)
    found = Exact().estimate(problem.logits, problem.loss)[1]
    torch.testing.assert_close(found, Exact().estimate(LOGITS, by_hand)[1])


def test_other_draws_and_dropout_keep_their_noise():
    dropout = nn.Dropout()

    def closure() -> Tensor:
        first, second = sample(LOGITS, "ReinMax"), sample(LOGITS + 1, "StraightThrough")
        return by_hand(dropout(first) + second)

    problem = problem_of_draw(closure, which=1)
    z = nn.functional.one_hot(torch.randint(3, (1, 5, 2)), 3).float()
    torch.testing.assert_close(problem.loss(z), problem.loss(z.repeat(3, 1, 1, 1))[2:])


def test_a_quantizer_and_a_router_are_measured():
    torch.manual_seed(0)
    quantizer, router, x = Quantizer(4, 5), Router(4), randn(6, 4, seed=2)
    outputs = randn(4, 2, seed=3)
    for closure in (
        lambda: (quantizer(x)[0] - 1).square().sum(-1),
        lambda: (router(x).weights @ outputs - 1).square().sum(-1),
    ):
        problem = problem_of_draw(closure)
        report = gradient_report(problem.loss, problem.logits, ["LeaveOneOut", "StraightThrough"], draws=2000)
        assert report.truth.startswith("exact")
        assert next(row for row in report.rows if row.name == "LeaveOneOut").relative_bias_low == 0


def test_refusals():
    with pytest.raises(ValueError, match="makes 0 draws"):
        problem_of_draw(lambda: torch.zeros(5))
    with pytest.raises(ValueError, match="one value a row"):
        problem_of_draw(lambda: by_hand(sample(LOGITS, "ReinMax")).mean())
