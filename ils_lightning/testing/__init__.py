"""The contract, for estimators of your own: a test that tries every law is these lines.

    import pytest
    from ils_lightning.testing import LAWS
    from my_estimator import MyEstimator

    @pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
    def test_contract(law):
        law(MyEstimator)

A law takes whatever makes a fresh estimator, a class or a function, and raises AssertionError with the rule that was
broken. One law more needs something of yours, the paper's equation in a slow and plain form: see `formula`.

>>> from ils_lightning.estimators import ReinMax
>>> LAWS[0](lambda: ReinMax(temperature=1.3))
"""

from ils_lightning.testing import few_rows, laws
from ils_lightning.testing.formula import Recording, formula
from ils_lightning.testing.laws import Make
from ils_lightning.testing.problems import Problem, linear, mlp, quadratic, truth
from ils_lightning.testing.replicates import Moments, simulate, worst

LAWS = (
    laws.shapes,
    laws.declarations,
    laws.losses,
    laws.scale,
    laws.rows,
    laws.evaluations,
    laws.state,
    few_rows.learning,
    few_rows.few_rows,
    laws.edges,
    laws.refusals,
)
"""Every law of the contract, each a function of what makes an estimator."""

__all__ = [
    "LAWS",
    "Make",
    "Moments",
    "Problem",
    "Recording",
    "formula",
    "linear",
    "mlp",
    "quadratic",
    "simulate",
    "truth",
    "worst",
]
