"""The gradient itself of a loss of one variable: E f = sum over nodes of weight times f(node)."""

from torch import Tensor, nn

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Loss, evaluate
from ils_lightning.variables.law import Law
from ils_lightning.variables.variable_estimator import VariableEstimator


class Summed(VariableEstimator):
    """Sums f over the values of the law (`Law.nodes`), for rows of one latent.

    Args:
        family: the distribution.

    Example:
        >>> import torch
        >>> from ils_lightning.variables import Poisson
        >>> Summed(Poisson())(torch.zeros(1, 1), lambda x: x[..., 0].square())  # the variance and the mean's square
        tensor([2.])
    """

    def __init__(self, family: Law) -> None:
        nn.Module.__init__(self)
        self.family = family

    def forward(self, theta: Tensor, f: Loss) -> Tensor:
        if theta.shape[-1] != 1:
            raise Refusal(f"Summed takes rows of one latent; given {theta.shape[-1]}")
        x, weight = self.family.nodes(theta)
        return (weight.squeeze(-1) * evaluate(lambda x: f(x.squeeze(-1)), x.unsqueeze(-1))).sum(dim=0)
