"""Networks given to the modules: plain `nn.Module`s that are sized once the data are known."""

from ils_lightning.networks.conv_decoder import ConvDecoder
from ils_lightning.networks.conv_encoder import ConvEncoder
from ils_lightning.networks.mlp import MLP
from ils_lightning.networks.network import Network
from ils_lightning.networks.ordinal_encoder import OrdinalEncoder

__all__ = ["MLP", "ConvDecoder", "ConvEncoder", "Network", "OrdinalEncoder"]
