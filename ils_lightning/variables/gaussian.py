"""Gaussian variables of known scale s, theta = mu / s^2: the sanity check of Intermediate Loss Sampling.

A = s^2 theta^2 / 2,   V = s^2,   V' = 0;   KL(N(mu_D, s^2) || N(mu, s^2)) = (mu - mu_D)^2 / (2 s^2)
"""

import numpy as np
import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.variables.natural_family import NaturalFamily


class Gaussian(NaturalFamily):
    """A real number; `ILSNatural` on it is the reparameterisation gradient with a control variate.

    Args:
        scale: standard deviation s, above 0.

    Raises:
        ValueError: when the scale is not.

    Example:
        >>> import torch
        >>> Gaussian(scale=2.0).mean(torch.ones(1))
        tensor([4.])
    """

    def __init__(self, scale: float = 1.0) -> None:
        if not 0 < scale < float("inf"):
            raise Refusal(f"Gaussian: scale must be greater than 0 and finite; given {scale}")
        self.scale = scale

    def log_partition(self, theta: Tensor) -> Tensor:
        return self.scale**2 * theta.square() / 2

    def mean(self, theta: Tensor) -> Tensor:
        return self.scale**2 * theta

    def variance(self, mu: Tensor) -> Tensor:
        return torch.full_like(mu, self.scale**2)

    def slope(self, mu: Tensor) -> Tensor:
        return torch.zeros_like(mu)

    def nodes(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Gauss-Hermite quadrature: exact for polynomials of degree 79."""
        away, weight = (torch.from_numpy(one).to(theta) for one in np.polynomial.hermite_e.hermegauss(40))
        shape = -1, *[1] * theta.dim()
        x = self.mean(theta) + self.scale * away.reshape(shape)
        return x, (weight / weight.sum()).reshape(shape).expand_as(x)

    def draw(self, mu: Tensor) -> Tensor:
        return mu + self.scale * torch.randn_like(mu)
