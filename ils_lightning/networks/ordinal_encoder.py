"""An encoder whose latents are ordered levels: one number for each, in place of a logit for every level."""

from torch import Tensor, nn

from ils_lightning.describe import create
from ils_lightning.errors import Refusal
from ils_lightning.networks.mlp import MLP
from ils_lightning.networks.network import Network
from ils_lightning.variables.ordinal import Ordinal


class OrdinalEncoder(Network):
    """Maps examples to the logits of ordered levels (`Ordinal`): a model of categories takes them as they are.

    Args:
        network: examples to the location of each latent; `MLP([128])` unless given.
        spacing: distance of neighbouring cut points, in logits; large ones make draws sure of their level.

    Example:
        >>> import torch
        >>> encoder = OrdinalEncoder(MLP([16]), spacing=2.0)
        >>> encoder.build(inputs=(1, 8, 8), outputs=(6, 4))  # six latents of four levels
        >>> encoder(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 6, 4])
    """

    def __init__(self, network: Network | None = None, spacing: float = 1.0) -> None:
        super().__init__()
        self.network: Network = create(network or MLP([128]), Network)
        self.spacing = spacing
        Ordinal(2, spacing)  # refuses a spacing that is none

    def make(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> nn.Sequential:
        """Returns the layers.

        Raises:
            ValueError: when an answer is not [latents, levels], of two levels at least.
        """
        if len(outputs) != 2:
            raise Refusal(f"OrdinalEncoder: an answer must be [latents, levels]; given {list(outputs)}")
        latents, levels = outputs
        return nn.Sequential(self.network.make(inputs, (latents,)), _Levels(Ordinal(levels, self.spacing)))

    def set_output_bias(self, bias: Tensor) -> None:
        """Says that it is no decoder: its answers are not shifted by a bias."""
        del bias
        raise Refusal("OrdinalEncoder answers levels of latents and is no decoder: give an MLP or a ConvDecoder there")


class _Levels(nn.Module):
    """Locations `[batch, latents]` to logits `[batch, latents, levels]`."""

    def __init__(self, law: Ordinal) -> None:
        super().__init__()
        self.law = law

    def forward(self, theta: Tensor) -> Tensor:
        return self.law.logits(theta)
