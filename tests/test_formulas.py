"""The formula law: every estimator equals a slow, plain form of its paper's equation, draw by draw."""

import pytest
from examples import Example, obeying
from formulas import FORMS
from test_contract import concrete

from ils_lightning.testing import formula


def test_every_estimator_has_a_slow_form():
    assert {c.__name__ for c in concrete() - set(FORMS)} == set()


@pytest.mark.parametrize("example", obeying("formula"))
def test_estimate_equals_its_slow_form(example: Example):
    formula(example.make, FORMS[type(example.make())])
