"""The convolutional decoder: the draws of a code map to the description of an image."""

from torch import nn

from ils_lightning.networks.code_map import ToMap, map_sizes, stride_two
from ils_lightning.networks.convolutional import Bias, Convolutional


class ConvDecoder(Convolutional):
    """Draws `[*any, latents, categories]` of a code map to descriptions of images, `[*any, channels, height, width]`.

    The 1x1 convolution that comes first is the table of the codes' embeddings.

    Args:
        channels: channels of every hidden layer.
        residual_blocks: residual blocks at the size of the code map.

    Example:
        >>> import torch
        >>> decoder = ConvDecoder(channels=8)
        >>> decoder.build(inputs=(16, 10), outputs=(1, 28, 28))
        >>> decoder(torch.ones(3, 5, 16, 10)).shape
        torch.Size([3, 5, 1, 28, 28])
    """

    def make(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> nn.Sequential:
        (after, height, width), (latents, categories) = self.checked(outputs, inputs)
        sizes = map_sizes(height, width, latents)
        layers: list[nn.Module] = [ToMap(*sizes[-1]), nn.Conv2d(categories, self.channels, 1)]
        layers += [nn.Conv2d(self.channels, self.channels, 3, padding=1), *self.residuals(), nn.ReLU()]
        for size in reversed(sizes[1:-1]):
            layers += [self._doubled(size, self.channels), nn.ReLU()]
        layers += [self._to_image(sizes, after), Bias(after, height, width)]
        return self.channels_last(layers)

    def _doubled(self, size: tuple[int, int], after: int, bias: bool = True) -> nn.Module:
        return nn.ConvTranspose2d(self.channels, after, stride_two(size), stride=2, padding=1, bias=bias)

    def _to_image(self, sizes: list[tuple[int, int]], after: int) -> nn.Module:
        if len(sizes) == 1:
            return nn.Conv2d(self.channels, after, 3, padding=1, bias=False)
        return self._doubled(sizes[0], after, bias=False)
