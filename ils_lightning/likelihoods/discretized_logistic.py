"""Grey levels as a logistic variable seen through the levels' bins; the outer bins reach to infinity.

Source: "PixelCNN++", Salimans, Karpathy, Chen, Kingma, 2017, arXiv:1701.05517, with one component. For level x, half
width h of a bin, location m and scale s, with a = (x + h - m) / s and b = (x - h - m) / s:
    lowest level:  log sigmoid(a)
    highest level: log sigmoid(-b)
    between them:  log(sigmoid(a) - sigmoid(b)) = log sigmoid(a) + log sigmoid(-b) + log(1 - e^(-2h / s))
The last form, unlike the paper's, loses no digits where the difference is small and needs no approximation.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ils_lightning.errors import Refusal
from ils_lightning.likelihoods.gaussian import LARGEST_DEVIATION
from ils_lightning.likelihoods.likelihood import Likelihood, inner, widened

# As in the paper's code: a scale of e^-7 is narrower than a bin of 256 levels.
LARGEST_LOG_SCALE = 7.0


class DiscretizedLogistic(Likelihood):
    """Probabilities of `levels` equally spaced grey levels from 0 to 1; the output holds locations, then log-scales.

    Locations and scales are in units of pixels in [0, 1]; log-scales are kept within [-7, 7]; x counts as the nearest
    level.

    Args:
        levels: number of grey levels, 256 for images of 8 bits.

    Example:
        >>> output, x = torch.zeros(100, 2, 8, 8), torch.zeros(100, 1, 8, 8)
        >>> DiscretizedLogistic(levels=2).log_prob(output, x)[0] / 64
        tensor(-0.4741)
    """

    parameters_per_pixel = 2

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        if levels < 2:
            raise Refusal(f"DiscretizedLogistic: levels must be at least 2; given {levels}")
        self.levels = levels

    def pixel_log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        location, log_scale = location_and_log_scale(output)
        level = (x * (self.levels - 1)).round() / (self.levels - 1)
        half = 0.5 / (self.levels - 1)
        rate = torch.exp(-log_scale)
        below = functional.logsigmoid((level + half - location) * rate)
        above = functional.logsigmoid((location + half - level) * rate)
        width = torch.log(-torch.expm1(-2 * half * rate))
        lowest, highest = level < half, level > 1 - half
        between = below + above + width
        return torch.where(lowest, below, torch.where(highest, above, between))

    def mean(self, output: Tensor) -> Tensor:
        """The expected level: the mean over the bins' borders of the probability to lie above."""
        location, log_scale = location_and_log_scale(widened(output))
        rate = torch.exp(-log_scale)
        total = torch.zeros_like(location)
        for border in range(1, self.levels):  # one at a time: all at once would need `levels` images of memory
            total += torch.sigmoid((location - (border - 0.5) / (self.levels - 1)) * rate)
        return total / (self.levels - 1)

    def output_bias(self, pixel_mean: Tensor) -> Tensor:
        """Each scale that of a standard deviation of .5; locations from the mean of the logistic cut off at 0 and 1.

        That mean, s log((1 + e^(m / s)) / (1 + e^((m - 1) / s))), is solved for m.
        """
        scale = LARGEST_DEVIATION * math.sqrt(3) / math.pi
        odds = torch.expm1(inner(pixel_mean) / scale) / -torch.expm1((inner(pixel_mean) - 1) / scale)
        return torch.cat([scale * odds.log(), torch.full_like(pixel_mean, math.log(scale))], dim=-3)


def location_and_log_scale(output: Tensor) -> tuple[Tensor, Tensor]:
    """The two halves of `output` `[*any, 2 * channels, height, width]`, the second within its bounds."""
    location, log_scale = output.chunk(2, dim=-3)
    return location, log_scale.clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)
