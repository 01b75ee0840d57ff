"""Convolutional networks between images and code maps, where each place of a small map holds one latent.

Each stage halves the height and width, odd ones rounded up: 28, 14, 7, 4. How many there are follows from the number of
latents. Latents lie row by row; the code map `[latents, categories]` is then a channels-last image in memory already,
so that neither network copies it.

Source: the architecture of "Neural Discrete Representation Learning", van den Oord, Vinyals, Kavukcuoglu, 2017,
arXiv:1711.00937, with fewer channels and stages as the map asks for.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

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


class ToLatents(nn.Module):
    """Code map `[batch, categories, height, width]` to `[batch, latents, categories]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1, 2)


class ToMap(nn.Module):
    """Latents `[batch, latents, categories]` to the code map `[batch, categories, height, width]`."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.size = (height, width)

    def forward(self, z: Tensor) -> Tensor:
        return z.unflatten(1, self.size).permute(0, 3, 1, 2)


def map_sizes(height: int, width: int, latents: int) -> list[tuple[int, int]]:
    """Heights and widths from the image's to that of the code map, which has `latents` places.

    Raises:
        ValueError: when halving the image never leaves as many places.

    Example:
        >>> map_sizes(28, 28, latents=16)
        [(28, 28), (14, 14), (7, 7), (4, 4)]
    """
    sizes = [(height, width)]
    while sizes[-1] != (1, 1):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    places = [math.prod(size) for size in sizes]
    if latents not in places:
        nearest = min(places, key=lambda number: abs(number - latents))
        fitting = ", ".join(f"{number} = {size[0]}x{size[1]}" for number, size in zip(places, sizes, strict=True))
        raise ValueError(
            f"the latents of a convolutional network are the places of a code map that halves {height}x{width} images "
            f"some times, {fitting}; given {latents} (nearest: {nearest})"
        )
    return sizes[: places.index(latents) + 1]


def stride_two(size: tuple[int, int]) -> tuple[int, int]:
    """The kernel that halves even sizes exactly and odd ones rounded up, at stride 2 and padding 1; and back."""
    return (4 - size[0] % 2, 4 - size[1] % 2)


class Convolutional(Network):
    """What the two networks share.

    Args:
        channels: channels of every hidden layer.
        residual_blocks: residual blocks at the size of the code map.
    """

    _abstract = True

    def __init__(self, channels: int = 64, residual_blocks: int = 2) -> None:
        super().__init__()
        if channels < 1 or residual_blocks < 0:
            raise ValueError(
                f"{type(self).__name__} needs at least 1 channel and 0 residual blocks; given {channels} and "
                f"{residual_blocks}"
            )
        self.channels = channels
        self.residual_blocks = residual_blocks

    def residuals(self) -> list[nn.Module]:
        """The blocks at the size of the code map."""
        return [Residual(self.channels) for _ in range(self.residual_blocks)]


class ConvEncoder(Convolutional):
    """Images `[*any, channels, height, width]` to logits `[*any, latents, categories]` of a code map.

    Args:
        channels: channels of every hidden layer.
        residual_blocks: residual blocks at the size of the code map.

    Example:
        >>> encoder = ConvEncoder(channels=8)
        >>> encoder.build(inputs=(1, 28, 28), outputs=(49, 16))
        >>> encoder(torch.ones(5, 1, 28, 28)).shape
        torch.Size([5, 49, 16])
    """

    def make(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> tuple[nn.Module, nn.Parameter]:
        (before, height, width), (latents, categories) = inputs, outputs
        layers: list[nn.Module] = []
        for size in map_sizes(height, width, latents)[:-1]:
            layers += [nn.Conv2d(before, self.channels, stride_two(size), stride=2, padding=1), nn.ReLU()]
            before = self.channels
        layers += [nn.Conv2d(before, self.channels, 3, padding=1), *self.residuals(), nn.ReLU()]
        last = Bias(latents, categories)
        layers += [nn.Conv2d(self.channels, categories, 1, bias=False), ToLatents(), last]
        return nn.Sequential(*layers).to(memory_format=torch.channels_last), last.bias


class ConvDecoder(Convolutional):
    """Draws `[*any, latents, categories]` of a code map to descriptions of images, `[*any, channels, height, width]`.

    The 1x1 convolution that comes first is the table of the codes' embeddings.

    Args:
        channels: channels of every hidden layer.
        residual_blocks: residual blocks at the size of the code map.

    Example:
        >>> decoder = ConvDecoder(channels=8)
        >>> decoder.build(inputs=(16, 10), outputs=(1, 28, 28))
        >>> decoder(torch.ones(3, 5, 16, 10)).shape
        torch.Size([3, 5, 1, 28, 28])
    """

    def make(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> tuple[nn.Module, nn.Parameter]:
        (latents, categories), (after, height, width) = inputs, outputs
        sizes = map_sizes(height, width, latents)
        layers: list[nn.Module] = [ToMap(*sizes[-1]), nn.Conv2d(categories, self.channels, 1)]
        layers += [nn.Conv2d(self.channels, self.channels, 3, padding=1), *self.residuals(), nn.ReLU()]
        for size in reversed(sizes[1:-1]):
            layers += [self._doubled(size, self.channels), nn.ReLU()]
        last = Bias(after, height, width)
        layers += [self._to_image(sizes, after), last]
        return nn.Sequential(*layers).to(memory_format=torch.channels_last), last.bias

    def _doubled(self, size: tuple[int, int], after: int, bias: bool = True) -> nn.Module:
        return nn.ConvTranspose2d(self.channels, after, stride_two(size), stride=2, padding=1, bias=bias)

    def _to_image(self, sizes: list[tuple[int, int]], after: int) -> nn.Module:
        if len(sizes) == 1:
            return nn.Conv2d(self.channels, after, 3, padding=1, bias=False)
        return self._doubled(sizes[0], after, bias=False)
