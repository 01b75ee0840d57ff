"""Replicates of the contract tests: the package's own (`ils_lightning.testing`), with the scores of an example."""

from examples import Example

from ils_lightning.testing import replicates
from ils_lightning.testing.replicates import Moments, problem_for, settle, simulate, size, threshold, worst, worst_score

__all__ = ["Moments", "problem_for", "scores", "settle", "simulate", "size", "threshold", "worst", "worst_score"]


def scores(example: Example, name: str) -> dict[str, float]:
    """Worst scores of an example on a problem, by quantity; simulated once."""
    return replicates.scores(example.make, name, example.objective, example.replicates)
