"""Pixels with normal noise of one scale for all."""

import math

import torch
from torch import Tensor, nn

from ils_lightning.errors import Refusal
from ils_lightning.likelihoods.likelihood import Likelihood, widened

# No pixel in [0, 1] deviates more from its mean.
LARGEST_DEVIATION = 0.5


class Gaussian(Likelihood):
    """log p(x) = -((x - output) / scale)^2 / 2 - log scale - log(2 pi) / 2.

    Source: a scale shared by all pixels and learnt, "Simple and Effective VAE Training with Calibrated Decoders",
    Rybkin, Daniilidis, Levine, 2021, arXiv:2006.13202.

    Args:
        scale: standard deviation of a pixel in [0, 1]; None learns it, from .5.

    Example:
        >>> output, x = torch.zeros(100, 3, 8, 8), torch.zeros(100, 3, 8, 8)
        >>> Gaussian(scale=1.0).log_prob(output, x)[0] / 192
        tensor(-0.9189)
    """

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        if scale is not None and not 0 < scale < math.inf:
            raise Refusal(f"Gaussian: scale must be greater than 0 and finite, or null to learn it; given {scale}")
        log_scale = torch.tensor(math.log(LARGEST_DEVIATION if scale is None else scale))
        if scale is None:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def pixel_log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        deviation = (x - output) * torch.exp(-self.log_scale)
        return -0.5 * deviation.square() - (self.log_scale + 0.5 * math.log(2 * math.pi))

    def mean(self, output: Tensor) -> Tensor:
        return widened(output)

    def output_bias(self, pixel_mean: Tensor) -> Tensor:
        return pixel_mean
