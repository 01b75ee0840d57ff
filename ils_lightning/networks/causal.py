"""A network over code maps that sees, at each place, only the places before it, row by row.

Source: A. van den Oord, N. Kalchbrenner and K. Kavukcuoglu, Pixel Recurrent Neural Networks, 2016, 1601.06759 (masked
convolutions); residual blocks as in the convolutional networks here.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

_SIZE = 5  # of every masked kernel: 3 leaves a large blind spot in maps this small


class MaskedConvolution(nn.Conv2d):
    """A convolution `[batch, channels, height, width]` whose kernel is zero after its centre, row by row.

    Args:
        before: channels that come in.
        after: channels that go out.
        sees_itself: whether the kernel's centre counts; not in the first layer.
    """

    mask: Tensor

    def __init__(self, before: int, after: int, sees_itself: bool) -> None:
        super().__init__(before, after, _SIZE, padding=_SIZE // 2)
        mask = torch.zeros(_SIZE * _SIZE)
        mask[: _SIZE * _SIZE // 2 + sees_itself] = 1
        self.register_buffer("mask", mask.reshape(_SIZE, _SIZE), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return functional.conv2d(input, self.weight * self.mask, self.bias, padding=self.padding)


class MaskedResidual(nn.Module):
    """x + Conv1x1(ReLU(Masked(ReLU(x)))) on `[batch, channels, height, width]`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.masked = MaskedConvolution(channels, channels, sees_itself=True)
        self.narrow = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(functional.relu(self.masked(functional.relu(x))))


class CausalCodes(nn.Module):
    """Codes of a map to the logits of each, given those before it and the place itself.

    Args:
        categories: of every code.
        height: of the map.
        width: of the map.
        channels: of every hidden layer.
        blocks: residual blocks after the first layer.

    Example:
        >>> CausalCodes(categories=6, height=4, width=4)(torch.zeros(3, 4, 4, dtype=torch.long)).shape
        torch.Size([3, 4, 4, 6])
    """

    def __init__(self, categories: int, height: int, width: int, channels: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(categories, channels)
        self.place = nn.Parameter(torch.zeros(channels, height, width))
        self.first = MaskedConvolution(channels, channels, sees_itself=False)
        self.blocks = nn.Sequential(*[MaskedResidual(channels) for _ in range(blocks)])
        self.last = nn.Linear(channels, categories)

    def forward(self, codes: Tensor) -> Tensor:
        """Maps int64 codes `[batch, height, width]` to logits `[batch, height, width, categories]`."""
        x = self.first(self.embedding(codes).movedim(-1, 1)) + self.place
        return self.last(functional.relu(self.blocks(x)).movedim(1, -1))

    def negative_log_prob(self, codes: Tensor) -> Tensor:
        """Returns -log p(codes) `[batch]` in nats of int64 codes `[batch, height * width]`, row by row."""
        logits = self(codes.unflatten(-1, self.place.shape[1:])).flatten(1, 2)
        return functional.cross_entropy(logits.mT, codes, reduction="none").sum(dim=-1)
