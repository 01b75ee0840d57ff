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

    def draw(self, mu: Tensor) -> Tensor:
        return torch.poisson(mu)
