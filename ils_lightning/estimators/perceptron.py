"""The small network that learnt baselines and critics are made of: sized when the problem is known."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.serialization import add_safe_globals

from ils_lightning.describe import Described
from ils_lightning.errors import Refusal
from ils_lightning.estimators.loss import refuse_transforms

add_safe_globals([nn.Sequential, nn.Linear, nn.Tanh, nn.LeakyReLU])  # what networks inside estimators are made of


class Perceptron(Described, nn.Module):
    """One hidden tanh layer, `[..., features]` to `[...]`; it answers zero until it has learnt something.

    Its parameters exist from the start, so that an optimiser made before the first call trains them; the first layer
    gets its size from `build`, the first call, or the weights of a checkpoint, whichever comes first. Tanh, because
    critics are differentiated twice.

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
            raise Refusal(f"Perceptron: hidden must be at least 1; given {hidden}")
        self.hidden = hidden
        last = nn.Linear(hidden, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.LazyLinear(hidden), nn.Tanh(), last)

    def build(self, features: int, device: torch.device | None = None) -> nn.Sequential:
        """Returns the layers, sized at the first call; later ones must name the same number of features."""
        if is_lazy(self._weight()):
            refuse_transforms("Perceptron", "sizes its layers at first use (or by build)")
            if device is not None:
                self.layers.to(device)
            weight = self._weight()
            self.layers(torch.empty(0, features, dtype=weight.dtype, device=weight.device))
        elif self._weight().shape[1] != features:
            raise Refusal(
                "Perceptron keeps the size it was built with, latents * categories = "
                f"{self._weight().shape[1]}; given {features}"
            )
        return self.layers

    def forward(self, x: Tensor) -> Tensor:
        layers = self.build(x.shape[-1], x.device)
        return layers(x.to(self._weight().dtype)).squeeze(-1).to(x.dtype)

    def _weight(self) -> Tensor:
        """That of the first layer; no parameter where pruning or functional_call has put a tensor in its place."""
        first: Any = self.layers[0]
        return first.weight


def features(logits: Tensor) -> Tensor:
    """Logits `[..., latents, categories]` as a network's input `[..., latents * categories]`: finite and shift-free."""
    centred = logits - torch.logsumexp(logits, dim=-1, keepdim=True)
    return centred.masked_fill(logits == float("-inf"), 0).flatten(-2)
