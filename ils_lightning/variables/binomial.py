"""Binomial variables: the number of successes in n trials, theta the log-odds of one.

logits_k = log C(n, k) + k theta;   A = n log(1 + e^theta),   V = mu (1 - mu / n),   V' = 1 - 2 mu / n
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ils_lightning.errors import Refusal
from ils_lightning.variables.natural_family import NaturalFamily
from ils_lightning.variables.variable import Variable


class Binomial(Variable, NaturalFamily):
    """A count 0 .. trials, for any estimator (as a categorical with trials + 1 values) or for `ILSNatural`.

    Args:
        trials: n, at least 1.

    Raises:
        ValueError: when `trials` is below 1.

    Example:
        >>> import torch
        >>> from ils_lightning.estimators import ReinMax
        >>> theta = torch.zeros(64, 1, requires_grad=True)
        >>> loss = Binomial(trials=10)(ReinMax(), theta, lambda x: (x[..., 0] - 7.0).square())
        >>> loss.sum().backward()
        >>> bool(theta.grad.mean() < 0)
        True
    """

    choose: Tensor

    def __init__(self, trials: int = 10) -> None:
        super().__init__()
        if trials < 1:
            raise Refusal(f"{type(self).__name__}: trials must be at least 1; given {trials}")
        self.trials = trials
        k = torch.arange(trials + 1, dtype=torch.float64)
        choose = torch.lgamma(k[-1] + 1) - torch.lgamma(k + 1) - torch.lgamma(k[-1] - k + 1)
        self.register_buffer("choose", choose, persistent=False)
        self.register_buffer("support", k.to(torch.get_default_dtype()), persistent=False)

    def logits(self, theta: Tensor) -> Tensor:
        return self.choose.to(theta) + theta.unsqueeze(-1) * self.support.to(theta)

    def log_partition(self, theta: Tensor) -> Tensor:
        return self.trials * softplus(theta)

    def mean(self, theta: Tensor) -> Tensor:
        return self.trials * torch.sigmoid(theta)

    def variance(self, mu: Tensor) -> Tensor:
        return mu * (1 - mu / self.trials)

    def slope(self, mu: Tensor) -> Tensor:
        return 1 - 2 * mu / self.trials

    def draw(self, mu: Tensor) -> Tensor:
        return torch.binomial(torch.full_like(mu, self.trials), mu / self.trials)
