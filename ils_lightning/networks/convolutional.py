"""What the convolutional networks share.

Source: the architecture of "Neural Discrete Representation Learning", van den Oord, Vinyals, Kavukcuoglu, 2017,
arXiv:1711.00937, with fewer channels, and as many strided layers as lie between the image and the code map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import convert_conv2d_weight_memory_format

from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.networks.network import Network


class Residual(nn.Module):
    """x + Conv1x1(ReLU(Conv3x3(ReLU(x)))) on `[batch, channels, height, width]`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 3, padding=1)
        self.narrow = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(functional.relu(self.wide(functional.relu(x))))


class Bias(nn.Module):
    """Adds one learnt number to each value of `[batch, *shape]`, from 0."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class Convolutional(Network):
    """What the two networks share.

    Args:
        channels: channels of every hidden layer.
        residual_blocks: residual blocks at the size of the code map.
    """

    _abstract = True

    def __init__(self, channels: int = 64, residual_blocks: int = 2) -> None:
        super().__init__()
        require_at_least(1, type(self).__name__, channels=channels)
        require_at_least(0, type(self).__name__, residual_blocks=residual_blocks)
        self.channels = channels
        self.residual_blocks = residual_blocks

    def checked(self, image: tuple[int, ...], codes: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns both, after checking that they have three and two axes."""
        if (len(image), len(codes)) != (3, 2):
            raise Refusal(
                f"{type(self).__name__} goes between [channels, height, width] and [latents, categories]; "
                f"given {list(image)} and {list(codes)} (MLP takes any)"
            )
        return image, codes

    def residuals(self) -> list[nn.Module]:
        """The blocks at the size of the code map."""
        return [Residual(self.channels) for _ in range(self.residual_blocks)]

    def channels_last(self, layers: list[nn.Module]) -> nn.Sequential:
        """The layers in a row, their weights laid out so that the code map needs no copy."""
        return convert_conv2d_weight_memory_format(nn.Sequential(*layers), torch.channels_last)
