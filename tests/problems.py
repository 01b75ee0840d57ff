"""The fixed losses of the contract tests: the package's own (`ils_lightning.testing`)."""

from ils_lightning.testing.problems import Base, Problem, expectation, linear, mlp, quadratic, states, truth

__all__ = ["Base", "Problem", "expectation", "linear", "mlp", "quadratic", "states", "truth"]
