"""The convolutional encoder: an image to the logits of a code map."""

from torch import nn

from ils_lightning.networks.code_map import ToLatents, map_sizes, stride_two
from ils_lightning.networks.convolutional import Bias, Convolutional


class ConvEncoder(Convolutional):
    """Images `[*any, channels, height, width]` to logits `[*any, latents, categories]` of a code map.

    Args:
        channels: channels of every hidden layer.
        residual_blocks: residual blocks at the size of the code map.

    Example:
        >>> import torch
        >>> encoder = ConvEncoder(channels=8)
        >>> encoder.build(inputs=(1, 28, 28), outputs=(49, 16))
        >>> encoder(torch.ones(5, 1, 28, 28)).shape
        torch.Size([5, 49, 16])
    """

    def make(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> nn.Sequential:
        (before, height, width), (latents, categories) = self.checked(inputs, outputs)
        layers: list[nn.Module] = []
        for size in map_sizes(height, width, latents)[:-1]:
            layers += [nn.Conv2d(before, self.channels, stride_two(size), stride=2, padding=1), nn.ReLU()]
            before = self.channels
        layers += [nn.Conv2d(before, self.channels, 3, padding=1), *self.residuals(), nn.ReLU()]
        layers += [nn.Conv2d(self.channels, categories, 1, bias=False), ToLatents(), Bias(latents, categories)]
        return self.channels_last(layers)
