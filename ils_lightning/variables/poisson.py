"""Poisson variables: counts without an upper end, theta the log-rate.

A = e^theta,   V = mu,   V' = 1
"""

import torch
from torch import Tensor

from ils_lightning.variables.natural_family import NaturalFamily


class Poisson(NaturalFamily):
    """A count 0, 1, 2, ...

    Example:
        >>> import torch
        >>> Poisson().variance(Poisson().mean(torch.zeros(2)))
        tensor([1., 1.])
    """

    def log_partition(self, theta: Tensor) -> Tensor:
        return theta.exp()

    def mean(self, theta: Tensor) -> Tensor:
        return theta.exp()

    def variance(self, mu: Tensor) -> Tensor:
        return mu

    def slope(self, mu: Tensor) -> Tensor:
        return torch.ones_like(mu)

    def nodes(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        most = float(theta.detach().exp().max())
        last = int(most + 12 * most**0.5 + 30)  # beyond it there is less than rounding
        x = torch.arange(last + 1, dtype=theta.dtype, device=theta.device).reshape(-1, *[1] * theta.dim())
        return x.expand(-1, *theta.shape), (x * theta - theta.exp() - torch.lgamma(x + 1)).exp()

    def draw(self, mu: Tensor) -> Tensor:
        return torch.poisson(mu)
