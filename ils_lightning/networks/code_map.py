"""Code maps: small images whose every place holds one latent, made by halving an image some times.

Halving rounds odd sizes up: 28, 14, 7, 4. Latents lie row by row, so that `[latents, categories]` is a channels-last
image in memory already and changing between the two copies nothing.
"""

import math

from torch import Tensor, nn

from ils_lightning.errors import Refusal


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
        raise Refusal(
            f"the latents of a convolutional network are the places of a code map that halves {height}x{width} images "
            f"some times, {fitting}; given {latents} (nearest: {nearest})"
        )
    return sizes[: places.index(latents) + 1]


def stride_two(size: tuple[int, int]) -> tuple[int, int]:
    """The kernel that halves even sizes exactly and odd ones rounded up, at stride 2 and padding 1; and back."""
    return (4 - size[0] % 2, 4 - size[1] % 2)


def last_map(height: int, width: int, latents: int) -> tuple[int, int]:
    """Height and width of the code map of `latents` places; one row where they are none.

    Example:
        >>> last_map(28, 28, latents=49), last_map(28, 28, latents=10)
        ((7, 7), (1, 10))
    """
    try:
        return map_sizes(height, width, latents)[-1]
    except Refusal:
        return 1, latents
