"""Any categorical estimator on a variable of finitely many values."""

from torch import Tensor, nn

from ils_lightning.estimators import Estimator, Loss
from ils_lightning.variables.variable import Variable
from ils_lightning.variables.variable_estimator import VariableEstimator


class OfCategories(VariableEstimator):
    """Lets an estimator draw one of the variable's values as a category.

    Args:
        family: the variable.
        estimator: the estimator.

    Example:
        >>> import torch
        >>> from ils_lightning.estimators import ReinMax
        >>> from ils_lightning.variables import Ordinal
        >>> theta = torch.zeros(64, 1, requires_grad=True)
        >>> loss = OfCategories(Ordinal(5), ReinMax())(theta, lambda x: (x[..., 0] - 3.0).square())
        >>> loss.sum().backward()
        >>> bool(theta.grad.mean() < 0)
        True
    """

    def __init__(self, family: Variable, estimator: Estimator) -> None:
        nn.Module.__init__(self)
        self.family, self.estimator = family, estimator

    def forward(self, theta: Tensor, f: Loss) -> Tensor:
        return self.family(self.estimator, theta, f)

    def diagnostics(self) -> dict[str, Tensor]:
        return self.estimator.diagnostics()
