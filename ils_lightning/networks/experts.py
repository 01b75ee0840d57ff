"""Experts side by side, and a transformer's block that sends each token through some of them.

Source: experts in place of a feed-forward layer, D. Lepikhin et al., GShard, 2020, 2006.16668; rotary positions, J. Su
et al., RoFormer, 2021, 2104.09864.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ils_lightning.layers import Router, Routing

_BASE = 10_000.0  # of the wave lengths of rotary positions


class Experts(nn.Module):
    """Networks of one hidden layer and equal size: expert e gives gelu(x A_e + a_e) B_e.

    Args:
        experts: how many there are.
        width: of tokens.
        hidden: units of each expert.

    Example:
        >>> Experts(experts=8, width=4, hidden=16).outputs(torch.randn(5, 4)).shape
        torch.Size([5, 8, 4])
    """

    def __init__(self, experts: int, width: int, hidden: int) -> None:
        super().__init__()
        self.experts, self.hidden = experts, hidden
        self.first = nn.Linear(width, experts * hidden)
        self.second = nn.Parameter(torch.empty(experts * hidden, width).uniform_(-1, 1) / hidden**0.5)

    def outputs(self, x: Tensor) -> Tensor:
        """Outputs of all experts `[*batch, experts, width]` of tokens `[*batch, width]`."""
        second = self.second.unflatten(0, (self.experts, self.hidden))
        return torch.einsum("...eh,ehw->...ew", self._hidden(x), second)

    def mixed(self, x: Tensor, weights: Tensor) -> Tensor:
        """Sums the outputs of all experts with weights `[*batch, experts]`; the slope in each weight is known."""
        return (self._hidden(x) * weights.unsqueeze(-1)).flatten(-2) @ self.second

    def routed(self, x: Tensor, routing: Routing) -> Tensor:
        """The same sum, of which only the experts that a token was sent to are computed."""
        tokens, weights = x.flatten(0, -2), routing.drawn_weights().flatten(0, -2)
        chosen, out = routing.experts.flatten(0, -2), torch.zeros_like(tokens)
        parts = self.first.weight.split(self.hidden), self.first.bias.split(self.hidden), self.second.split(self.hidden)
        for number, (first, bias, second) in enumerate(zip(*parts, strict=True)):
            row, place = (chosen == number).nonzero(as_tuple=True)
            hidden = functional.gelu(functional.linear(tokens[row], first, bias))
            part = (hidden * weights[row, place].unsqueeze(-1)) @ second
            out = out.index_add(0, row, part.to(out.dtype))
        return out.view_as(x)

    def _hidden(self, x: Tensor) -> Tensor:
        return functional.gelu(self.first(x)).unflatten(-1, (self.experts, self.hidden))


class CausalAttention(nn.Module):
    """Attention of each token to itself and those before it, `[*batch, tokens, width]`, with rotary positions.

    Args:
        width: of tokens.
        heads: how many there are; their width, `width` / `heads`, must be even.
    """

    frequency: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        half = width // heads // 2
        self.register_buffer("frequency", _BASE ** -(torch.arange(half) / half), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.inputs(x.flatten(0, -3)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        angle = torch.arange(x.shape[-2], device=x.device).unsqueeze(-1) * self.frequency
        turn = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        query, key = _turned(rows[0], *turn), _turned(rows[1], *turn)
        seen = functional.scaled_dot_product_attention(query, key, rows[2], is_causal=True)
        return self.output(seen.transpose(1, 2).flatten(-2)).view_as(x)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns pairs of x `[..., tokens, units]` by angles that grow with the place."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class ExpertBlock(nn.Module):
    """Attention, then experts, each added to what came in: `[*batch, tokens, width]`.

    In training, all experts are computed where the router's estimator needs the slopes of all; else the drawn ones.

    Args:
        width: of tokens.
        heads: of the attention.
        hidden: units of each expert.
        router: which sends tokens to experts.
    """

    def __init__(self, width: int, heads: int, hidden: int, router: Router) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), CausalAttention(width, heads)
        self.experts_norm, self.experts = nn.LayerNorm(width), Experts(router.experts, width, hidden)
        self.gate = nn.Linear(width, router.experts, bias=False)
        self.router = router

    def before(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what the experts' output is added to, and the experts' input."""
        x = x + self.attention(self.attention_norm(x))
        return x, self.experts_norm(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        x, tokens = self.before(x)
        routing: Routing = self.router(self.gate(tokens))
        if self.training and self.router.estimator.needs_slopes == "all":
            return x + self.experts.mixed(tokens, routing.weights), routing
        return x + self.experts.routed(tokens, routing), routing
