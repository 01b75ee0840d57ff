"""Networks given to the modules: plain `nn.Module`s that are sized once the data are known."""

from ils_lightning.networks.convolutional import ConvDecoder, ConvEncoder
from ils_lightning.networks.mlp import MLP
from ils_lightning.networks.network import Network

__all__ = ["MLP", "ConvDecoder", "ConvEncoder", "Network"]
