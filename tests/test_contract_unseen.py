"""Claims of unbiasedness at a size and on a loss that the other tests do not use: L = 3, K = 7, 10^6 draws."""

import pytest
from examples import Example, obeying
from problems import mlp, truth
from simulate import settle, simulate, worst

REPLICATES = 1_000_000


@pytest.mark.long
@pytest.mark.parametrize("example", obeying("gradient"))
def test_unbiased_as_declared_on_a_loss_never_seen(example: Example):
    estimator = example.make().double()
    problem = mlp(3, 2 if estimator.binary else 7, hidden=9)
    estimator.build(*problem.logits.shape)
    if estimator.unbiased:
        settle(estimator, problem)
    replicates = REPLICATES if example.replicates > 1000 else 1000  # those that never vary need few
    moments = simulate(estimator, problem, replicates, seed=5)
    score = worst(moments["gradient"], truth(problem, example.objective)["gradient"])
    assert estimator.unbiased == (score < 1)
