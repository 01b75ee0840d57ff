"""Laws 2, 3, 4 and 12: means over 100 000 replicates of one row against enumeration."""

import pytest
import torch
from examples import Example, obeying
from mutants import MUTANTS
from problems import Problem, truth
from simulate import Moments, problem_for, scores, simulate, worst

from ils_lightning.estimators import Estimator

EXACT_FOR = ["none", "linear", "quadratic", "all"]


@pytest.mark.parametrize("example", obeying("value"))
def test_loss_is_the_expectation(example: Example):
    assert example.make().hard == (scores(example, "mlp")["loss"] < 1)


@pytest.mark.parametrize("example", obeying("theta"))
def test_parameter_inside_the_loss_gets_the_gradient_of_the_expectation(example: Example):
    assert example.make().hard == (scores(example, "mlp")["theta"] < 1)


@pytest.mark.parametrize("example", obeying("gradient"))
def test_gradient_is_as_exact_as_declared_and_no_more(example: Example):
    estimator = example.make()
    assert estimator.unbiased == (estimator.exact_for == "all")
    reach = EXACT_FOR.index(estimator.exact_for)
    accepted = {name: scores(example, name)["gradient"] < 1 for name in ("linear", "quadratic", "mlp")}
    assert accepted == {name: reach >= EXACT_FOR.index(name.replace("mlp", "all")) for name in accepted}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_mutated_estimators_are_rejected(mutant: type[Estimator]):
    estimator = mutant().double()
    problem = problem_for(estimator, mutant.rejected_on)
    moments, expected = simulate(estimator, problem, 100_000), truth(problem)
    assert {key for key in expected if worst(moments[key], expected[key]) > 1} == mutant.rejected


@pytest.mark.parametrize("example", [p for p in obeying("copies") if not p.values[0].make().pooled])
def test_gradient_of_a_mean_over_copies_does_not_depend_on_their_number(example: Example):
    estimator = example.make().double()
    problem = problem_for(estimator, "quadratic")
    one, eight = (mean_over_copies(estimator, problem, n, example.replicates // 20) for n in (1, 8))
    assert one.compare(eight) < 1


def mean_over_copies(estimator: Estimator, problem: Problem, n: int, replicates: int) -> Moments:
    """Moments of the logits' gradient of the mean loss of n copies of a row."""
    moments = Moments()
    torch.manual_seed(n)
    logits = problem.logits.expand(replicates, 1, -1, -1).clone().requires_grad_()
    loss = estimator(logits.expand(-1, n, -1, -1), problem.loss())
    loss.mean(dim=1).sum().backward()
    assert logits.grad is not None
    moments.add(logits.grad)
    return moments
