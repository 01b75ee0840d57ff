"""Training mode with four rows a step: no draw reaches its own baseline, coefficient or curvature."""

import pytest
import torch
from examples import Example, obeying
from simulate import problem_for, settle

from ils_lightning.testing import few_rows
from ils_lightning.testing.laws import gradient

CONCERNED = [p for p in obeying("few rows") if few_rows.concerns(p.values[0].make())]


@pytest.mark.parametrize("example", obeying("learning"))
def test_state_is_read_before_the_present_draws_change_it(example: Example):
    few_rows.learning(example.make)


@pytest.mark.slow
@pytest.mark.parametrize("example", CONCERNED)
def test_mean_of_four_rows_is_the_gradient_that_is_declared(example: Example):
    few_rows.few_rows(example.make)


@pytest.mark.long
@pytest.mark.parametrize("example", CONCERNED)
def test_mean_of_four_rows_at_greater_power(example: Example):
    few_rows.few_rows(example.make, steps=4000)


@pytest.mark.parametrize("example", [p for p in obeying("rows") if p.values[0].make().pooled_by_state])
def test_rows_of_a_settled_state_are_independent_in_evaluation_mode(example: Example):
    estimator = example.make().double()
    problem = problem_for(estimator, "mlp")
    settle(estimator, problem)
    logits = problem.logits.expand(4, -1, -1).clone()
    others, factor = logits + torch.randn_like(logits), torch.tensor([1.0, 7.0, -3.0, 0.5])
    others[0] = logits[0]
    alone = gradient(estimator, logits, problem.loss())
    among = gradient(estimator, others, lambda z: factor.to(z) * problem.base(z))
    torch.testing.assert_close(among[0], alone[0])
    assert not torch.allclose(among[1:], alone[1:])
