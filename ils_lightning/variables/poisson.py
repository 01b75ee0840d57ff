"""Poisson variables: counts without an upper end, theta the log-rate.

A = e^theta,   V = mu,   V' = 1
"""

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.variables.natural_family import NaturalFamily

_LARGEST_RATE = 10_000


class Poisson(NaturalFamily):
    """A count 0, 1, 2, ...

    Example:
        >>> import torch
        >>> Poisson().variance(Poisson().mean(torch.zeros(2)))
        tensor([1., 1.])
    """

    farthest = 4.0  # a rate of 55

    def log_partition(self, theta: Tensor) -> Tensor:
        return theta.exp()

    def mean(self, theta: Tensor) -> Tensor:
        return theta.exp()

    def variance(self, mu: Tensor) -> Tensor:
        return mu

    def slope(self, mu: Tensor) -> Tensor:
        return torch.ones_like(mu)

    def nodes(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The counts up to where nothing is left.

        Raises:
            ValueError: when a rate is beyond 10 000: there are too many.
        """
        most = float(theta.detach().exp().max())
        if not most <= _LARGEST_RATE:
            raise Refusal(f"Poisson: expectations are summed at rates up to {_LARGEST_RATE:,}; given {most:.3g}")
        last = int(most + 12 * most**0.5 + 30)  # beyond it there is less than rounding
        x = torch.arange(last + 1, dtype=theta.dtype, device=theta.device).reshape(-1, *[1] * theta.dim())
        return x.expand(-1, *theta.shape), (x * theta - theta.exp() - torch.lgamma(x + 1)).exp()

    def draw(self, mu: Tensor) -> Tensor:
        return torch.poisson(mu)
