"""The score-function estimator with a leave-one-out baseline on a natural exponential family.

    x_1..x_S ~ theta;   estimate = 1/(S - 1) sum_i (f_i - mean of all f_j)(x_i - mu)

for d log p(x) / d theta = x - mu. Unbiased for any f, differentiable or not. Source: Kool et al., 2019.
"""

from torch import Tensor, nn

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Loss, evaluate
from ils_lightning.estimators.delivery import Deliver, no_own
from ils_lightning.variables.natural_family import NaturalFamily
from ils_lightning.variables.variable_estimator import VariableEstimator


class LeaveOneOutNatural(VariableEstimator):
    """Draws several times; the other draws of the same row are the baseline.

    Args:
        family: the distribution.
        samples: draws a row, at least 2.

    Example:
        >>> from ils_lightning.variables import Poisson
        >>> import torch
        >>> theta = torch.zeros(64, 1, requires_grad=True)
        >>> loss = LeaveOneOutNatural(Poisson())(theta, lambda x: (x[..., 0] - 3.0).square())
        >>> loss.sum().backward()
        >>> bool(theta.grad.mean() < 0)
        True
    """

    def __init__(self, family: NaturalFamily, samples: int = 2) -> None:
        nn.Module.__init__(self)
        if samples < 2:
            raise Refusal(f"LeaveOneOutNatural needs samples of at least 2; given {samples}")
        self.family, self.samples = family, samples

    def forward(self, theta: Tensor, f: Loss) -> Tensor:
        theta = theta.unsqueeze(-1)  # one number where a categorical variable has its categories
        mu = self.family.mean(theta.detach())
        x = self.family.draw(mu.expand(self.samples, *mu.shape))
        loss = evaluate(lambda x: f(x.squeeze(-1)), x)
        advantage = (loss - loss.mean(dim=0)).detach()
        estimate = (advantage[..., None, None] * (x - mu)).sum(dim=0) / (self.samples - 1)
        return Deliver.apply(loss.mean(dim=0), theta, estimate, "LeaveOneOutNatural", no_own)
