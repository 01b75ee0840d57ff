"""The small network that learnt baselines and critics are made of: sized when the problem is known."""

from typing import Any

import torch
from torch import Tensor, nn

from ils_lightning.describe import Described
from ils_lightning.estimators.loss import refuse_transforms


class Perceptron(Described, nn.Module):
    """One hidden tanh layer, `[..., features]` to `[...]`; it answers zero until it has learnt something.

    The layers are made by `build`, by the first call, or by the weights of a checkpoint, whichever comes first. Tanh,
    because critics are differentiated twice.

    Args:
        hidden: units of the hidden layer.

    Example:
        >>> import torch
        >>> network = Perceptron(hidden=8)
        >>> network(torch.ones(5, 3))
        tensor([0., 0., 0., 0., 0.], grad_fn=<SqueezeBackward1>)
    """

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"Perceptron: hidden must be at least 1; given {hidden}")
        self.hidden = hidden
        self.layers: nn.Sequential | None = None

    def build(self, features: int, device: torch.device | None = None) -> nn.Sequential:
        """Returns the layers, made at the first call; later ones must name the same number of features."""
        if self.layers is None:
            refuse_transforms("Perceptron", "makes its layers at first use (or by build)")
            last = nn.Linear(self.hidden, 1, device=device)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.layers = nn.Sequential(nn.Linear(features, self.hidden, device=device), nn.Tanh(), last)
        elif self._first(self.layers).shape[1] != features:
            raise ValueError(
                "Perceptron keeps the size it was built with, latents * categories = "
                f"{self._first(self.layers).shape[1]}; given {features}"
            )
        return self.layers

    def forward(self, x: Tensor) -> Tensor:
        layers = self.build(x.shape[-1], x.device)
        return layers(x.to(self._first(layers).dtype)).squeeze(-1).to(x.dtype)

    @staticmethod
    def _first(layers: nn.Sequential) -> Tensor:
        return layers.get_parameter("0.weight")

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        weight = state_dict.get(f"{prefix}layers.0.weight")
        if weight is not None and self.layers is None:
            self.build(weight.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *args)


def features(logits: Tensor) -> Tensor:
    """Logits `[..., latents, categories]` as a network's input `[..., latents * categories]`: finite and shift-free."""
    centred = logits - torch.logsumexp(logits, dim=-1, keepdim=True)
    return centred.masked_fill(logits == float("-inf"), 0).flatten(-2)
