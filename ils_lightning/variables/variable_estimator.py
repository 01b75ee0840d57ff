"""The interface of estimators of d E f(x) / d theta for variables x that need not be categorical."""

from typing import Any

from torch import Tensor, nn

from ils_lightning.describe import Described
from ils_lightning.estimators import Loss


class VariableEstimator(Described, nn.Module):
    """Estimates d E f(x) / d theta for x drawn from a law with parameter theta.

    Attributes:
        family: the `Law`.
    """

    _abstract = True

    family: Any

    def forward(self, theta: Tensor, f: Loss) -> Tensor:
        """Returns the loss `[*batch]`, whose backward delivers the estimate to theta.

        Args:
            theta: parameters `[*batch, latents]`.
            f: a loss of values, x `[samples, *batch, latents]` to `[samples, *batch]`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(theta, f)")

    def diagnostics(self) -> dict[str, Tensor]:
        """Scalars worth logging about the estimator's own work."""
        return {}
