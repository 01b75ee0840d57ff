"""Learnt codes, and how often each is drawn."""

import torch
from torch import Tensor, nn

from ils_lightning.estimators.distributed import rank_of_ranks, sum_over_ranks

_DECAY = 0.99


class Codebook(nn.Module):
    """Codes of each head, with a moving average of their use.

    Args:
        heads: codebooks side by side.
        size: codes of each.
        width: of a code.
        restart_below: codes used less than this share of an even use are put at vectors of the batch.
    """

    use: Tensor

    def __init__(self, heads: int, size: int, width: int, restart_below: float) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(heads, size, width) / width**0.5)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.restart_below = restart_below
        self.register_buffer("use", torch.full((heads, size), 1 / size))

    def in_use(self) -> Tensor:
        """The codes `[heads, size, width]` for a forward pass: a copy where `observe` may move some before backward."""
        return self.codes.clone() if self.restart_below else self.codes

    def logits(self, x: Tensor, codes: Tensor | None = None) -> Tensor:
        """Minus the scaled squared distances of x `[rows, heads, width]` to the codes, up to a constant a row."""
        codes = self.codes if codes is None else codes
        products = torch.einsum("rhw,hkw->rhk", x, codes)
        return self.log_scale.exp() * (2 * products - codes.square().sum(dim=-1))

    def vectors(self, index: Tensor) -> Tensor:
        """Codes `[*any, heads, width]` of indices `[*any, heads]`."""
        heads = torch.arange(len(self.codes), device=index.device)
        return self.codes[heads, index]

    def mixed(self, z: Tensor, codes: Tensor | None = None) -> Tensor:
        """Codes `[rows, heads, width]` of draws z `[rows, heads, size]`, linear in z."""
        return torch.einsum("rhk,hkw->rhw", z, self.codes if codes is None else codes)

    @torch.no_grad()
    def observe(self, index: Tensor, x: Tensor) -> None:
        """Counts draws `[rows, heads]` and moves codes that are hardly used to vectors of the batch."""
        count = torch.zeros_like(self.use).scatter_add_(1, index.mT, torch.ones_like(index.mT, dtype=self.use.dtype))
        total = sum_over_ranks(count)
        number = total.sum(dim=-1, keepdim=True)
        share = torch.where(number > 0, total / number.clamp(min=1), self.use)  # no draws say nothing
        self.use.lerp_(share, 1 - _DECAY)
        if self.restart_below:
            dead = self.use < self.restart_below / self.use.shape[-1]
            self.codes.copy_(torch.where(dead[..., None], self._from_batch(x), self.codes))
            self.use.masked_fill_(dead, 1 / self.use.shape[-1])

    def _from_batch(self, x: Tensor) -> Tensor:
        """Vectors of the batch for every code, the same on all ranks, which take turns in giving one."""
        heads, size = self.use.shape
        rank, ranks = rank_of_ranks()
        chosen = torch.randint(max(len(x), 1), (heads, size), device=x.device)
        given = x[chosen, torch.arange(heads, device=x.device)[:, None]] if len(x) else torch.zeros_like(self.codes)
        mine = torch.arange(size, device=x.device) % ranks == rank
        return sum_over_ranks(torch.where(mine[:, None], given, 0).to(self.codes.dtype))
