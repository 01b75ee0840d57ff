"""The fully connected network of the literature's discrete autoencoders."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

from ils_lightning.errors import Refusal
from ils_lightning.networks.network import Network


class MLP(Network):
    """Linear layers with an activation between them, on flattened examples; torch's initialisation, as in the papers.

    Args:
        hidden: units of each hidden layer; none makes the network linear.
        activation: what follows each hidden layer.
        leak: slope of "leaky_relu" below zero.

    Example:
        >>> import torch
        >>> decoder = MLP(hidden=[32, 64])
        >>> decoder.build(inputs=(8, 4), outputs=(1, 8, 8))
        >>> decoder(torch.ones(3, 100, 8, 4)).shape
        torch.Size([3, 100, 1, 8, 8])
    """

    def __init__(
        self,
        hidden: Sequence[int] = (512, 256),
        activation: Literal["relu", "leaky_relu", "tanh"] = "relu",
        leak: float = 0.01,
    ) -> None:
        super().__init__()
        if any(units < 1 for units in hidden):
            raise Refusal(f"MLP: every hidden layer needs at least 1 unit; given {list(hidden)}")
        if activation not in ("relu", "leaky_relu", "tanh"):
            raise Refusal(f"MLP: activation must be relu, leaky_relu or tanh; given {activation!r}")
        if not math.isfinite(leak):
            raise Refusal(f"MLP: leak must be finite; given {leak}")
        if leak != 0.01 and activation != "leaky_relu":
            raise Refusal(f"MLP: leak belongs to activation='leaky_relu'; given {leak} with {activation!r}")
        self.hidden = list(hidden)
        self.activation = activation
        self.leak = leak

    def make(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> nn.Sequential:
        sizes = [math.prod(inputs), *self.hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), self._activation()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], math.prod(outputs)))

    def _activation(self) -> nn.Module:
        if self.activation == "leaky_relu":
            return nn.LeakyReLU(self.leak)
        return nn.Tanh() if self.activation == "tanh" else nn.ReLU()
