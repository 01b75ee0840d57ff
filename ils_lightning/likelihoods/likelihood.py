"""The base of the likelihoods: how a decoder's output describes the pixels of an image in [0, 1]."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ils_lightning.describe import Described
from ils_lightning.errors import Refusal


class Likelihood(Described, nn.Module):
    """A law of each pixel given the decoder's output. Subclasses write `pixel_log_prob`, `mean` and `output_bias`.

    Attributes:
        parameters_per_pixel: numbers by which the decoder describes one channel of one pixel. They lie along the
            channel axis: the first of all channels, then the second of all channels.
    """

    _abstract = True

    parameters_per_pixel: ClassVar[int] = 1

    def pixel_log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """Returns the log-probability of each pixel, `[*any, channels, height, width]`, in nats."""
        raise NotImplementedError(f"{type(self).__name__} must define pixel_log_prob(output, x)")

    def mean(self, output: Tensor) -> Tensor:
        """Returns the expected image, `[*any, channels, height, width]`."""
        raise NotImplementedError(f"{type(self).__name__} must define mean(output)")

    def output_bias(self, pixel_mean: Tensor) -> Tensor:
        """The output, `[channels * parameters, height, width]`, that describes images of mean `pixel_mean`."""
        raise NotImplementedError(f"{type(self).__name__} must define output_bias(pixel_mean)")

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """Returns log p(x) `[*any]`, summed over pixels, in nats; in float32 at least, whatever autocast chose.

        Args:
            output: the decoder's answer, `[*any, channels * parameters_per_pixel, height, width]`.
            x: pixels in [0, 1], `[*any, channels, height, width]`; its leading axes broadcast.

        Raises:
            ValueError: when the two describe images of different shapes.
        """
        described = (x.shape[-3] * self.parameters_per_pixel, *x.shape[-2:]) if x.dim() > 2 else None
        if output.shape[-3:] != described:
            raise Refusal(
                f"{type(self).__name__} needs output [*any, channels * {self.parameters_per_pixel}, height, width] "
                f"for x [*any, channels, height, width] = {list(x.shape)}; given {list(output.shape)}"
            )
        return self.pixel_log_prob(widened(output), widened(x)).sum(dim=(-3, -2, -1))


def widened(value: Tensor) -> Tensor:
    """The value in float32 at least."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def inner(pixel_mean: Tensor) -> Tensor:
    """The means, none nearer to 0 or 1 than .001: pixels that never changed may still do so."""
    return pixel_mean.clamp(0.001, 0.999)
