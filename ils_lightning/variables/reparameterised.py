"""The reparameterisation gradient of Gaussian variables (Kingma and Welling, 2013, 1312.6114).

x = mu(theta) + s eps,  eps ~ N(0, 1);   estimate = df/dx d mu / d theta = s^2 df/dx
"""

from torch import Tensor, nn

from ils_lightning.estimators import Loss
from ils_lightning.estimators.base import evaluate
from ils_lightning.variables.gaussian import Gaussian
from ils_lightning.variables.variable_estimator import VariableEstimator


class Reparameterised(VariableEstimator):
    """Differentiates f along the draw; unbiased for every differentiable f.

    Args:
        family: the distribution.

    Example:
        >>> import torch
        >>> theta = torch.zeros(64, 1, requires_grad=True)
        >>> loss = Reparameterised(Gaussian())(theta, lambda x: (x[..., 0] - 3.0).square())
        >>> loss.sum().backward()
        >>> bool(theta.grad.mean() < 0)
        True
    """

    def __init__(self, family: Gaussian) -> None:
        nn.Module.__init__(self)
        self.family = family

    def forward(self, theta: Tensor, f: Loss) -> Tensor:
        x = self.family.draw(self.family.mean(theta))
        return evaluate(lambda x: f(x.squeeze(-1)), x.unsqueeze(0).unsqueeze(-1)).squeeze(0)
