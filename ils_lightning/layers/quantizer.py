"""Vector quantisation by categorical draws: `quantized, indices, loss = quantizer(x)`, through any estimator."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from ils_lightning.describe import create
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators import Estimator, Sampler
from ils_lightning.estimators.categorical import log_softmax
from ils_lightning.estimators.replacing import drawn, draws_are_replaced
from ils_lightning.functional import category_drawer
from ils_lightning.functional import unimix as mix
from ils_lightning.layers.codebook import Codebook
from ils_lightning.layers.vector_quantizer import VectorQuantizer


class Quantizer(VectorQuantizer):
    """Replaces vectors by codes of a learnt codebook: drawn in training, the nearest one otherwise.

    A code's logit is minus its squared distance, times a learnt scale; the codebook and the encoder train by the loss
    alone, through the estimator, without averages of the codes' inputs. The `loss` returned is the KL divergence from
    the even distribution over codes, in nats a vector, times `kl_weight`: with weight 1 beside a likelihood, -ELBO.

    `codebook_dim` puts a linear map before and after, where codes are narrower than the data's vectors. Heads quantise
    parts of the vector, each with a codebook of its own. Levels quantise what earlier levels left over; the draws of
    later levels depend on those of earlier ones, and so does the gradient.

    Args:
        dim: width of the vectors.
        codebook_size: number of codes.
        estimator: of the gradient through the draw; its class name or a description will do.
        codebook_dim: width of a code; dim / heads unless given.
        heads: parts of a vector, quantised side by side.
        levels: codebooks in sequence, each for the rest that the ones before left.
        channels_first: x is `[batch, dim, *space]`, as convolutions have it; else `[batch, *any, dim]`.
        kl_weight: of the KL divergence in the loss returned.
        unimix: share of the even distribution mixed into the probabilities.
        restart_below: codes whose share of the draws, a moving average, falls below this share of an even one are put
            at vectors of the batch; 0 never.

    Raises:
        ValueError: when sizes do not fit or the estimator cannot draw.

    Example:
        >>> import torch
        >>> quantizer = Quantizer(dim=16, codebook_size=64, estimator="ReinMax")
        >>> quantized, indices, loss = quantizer(torch.randn(2, 10, 16))
        >>> quantized.shape, indices.shape
        (torch.Size([2, 10, 16]), torch.Size([2, 10]))
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        estimator: Sampler | str | dict = "ReinMax",
        codebook_dim: int | None = None,
        heads: int = 1,
        levels: int = 1,
        channels_first: bool = False,
        kl_weight: float = 1e-3,
        unimix: float = 0.0,
        restart_below: float = 0.0,
    ) -> None:
        super().__init__()
        require_at_least(1, "Quantizer", dim=dim, codebook_size=codebook_size, heads=heads, levels=levels)
        if codebook_dim is None and dim % heads:
            raise Refusal(f"Quantizer: heads must divide dim unless codebook_dim is given; given {heads} and {dim}")
        require_at_least(0, "Quantizer", kl_weight=kl_weight)
        if not 0 <= restart_below < 1:
            raise Refusal(f"Quantizer: restart_below must be in [0, 1); given {restart_below}")
        mix(torch.zeros(1), unimix)
        self.dim, self.codebook_size, self.heads, self.levels = dim, codebook_size, heads, levels
        self.channels_first, self.kl_weight, self.unimix = channels_first, kl_weight, unimix
        self.width = width = codebook_dim or dim // heads
        inner = width * heads
        self.project_in = nn.Linear(dim, inner) if inner != dim else nn.Identity()
        self.project_out = nn.Linear(inner, dim) if inner != dim else nn.Identity()
        made = category_drawer(create(estimator, Estimator), "Quantizer")
        self.codebooks = nn.ModuleList(Codebook(heads, codebook_size, width, restart_below) for _ in range(levels))
        self.estimators = nn.ModuleList(copy.deepcopy(made) for _ in range(levels))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the quantised vectors, their codes and the loss.

        Args:
            x: `[batch, *any, dim]`, or `[batch, dim, *space]` with `channels_first`.
            mask: which vectors count, `[batch, *any]`: others are in no loss and no code's use.

        Returns:
            Vectors like x; indices `[batch, *any]`, with an axis of levels, then of heads, where there are several,
            int64, -1 where masked; the loss, a scalar.
        """
        vectors = x.movedim(1, -1) if self.channels_first else x
        if x.dim() < 2 or vectors.shape[-1] != self.dim or not x.is_floating_point():
            where = "[batch, dim, *space]" if self.channels_first else "[batch, *any, dim]"
            given = f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
            raise Refusal(f"Quantizer needs floating-point x {where} with dim = {self.dim}; given {given}")
        batch = vectors.shape[:-1]
        there = None if mask is None else mask.bool()
        if there is not None and there.shape != batch:
            raise Refusal(
                f"Quantizer: the mask says of each vector, {list(batch)}, whether it counts; given {list(there.shape)}"
            )
        rows = vectors.flatten(0, -2) if there is None else vectors[there]
        rest = self.project_in(rows).unflatten(-1, (self.heads, self.width))  # [rows, heads, width]
        total, found, kl = torch.zeros_like(rest), [], rest.new_zeros(())
        levels: Any = zip(self.codebooks, self.estimators, strict=True)
        for codebook, estimator in levels:
            quantized, index, nats = self._level(codebook, estimator, rest)
            rest, total, kl = rest - quantized, total + quantized, kl + nats
            found.append(index)
        quantized, index = self.project_out(total.flatten(-2)).to(x.dtype), torch.stack(found, dim=-2)
        if there is None:
            quantized, index = quantized.unflatten(0, batch), index.unflatten(0, batch)
        else:
            quantized, index = spread(quantized, there, 0), spread(index, there, -1)
        quantized = quantized.movedim(-1, 1) if self.channels_first else quantized
        return quantized, self._squeezed(index), self.kl_weight * kl

    def _level(self, codebook: Any, estimator: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One codebook's vectors `[rows, heads, width]`, codes `[rows, heads]` and KL divergence in nats a vector."""
        codes = codebook.in_use()
        logits = mix(codebook.logits(x, codes), self.unimix)
        nats = divergence(logits)
        if not (self.training or draws_are_replaced()):
            index = logits.argmax(dim=-1)
            return codebook.vectors(index), index, nats
        estimator.check(logits)
        z = drawn(estimator, logits)
        index = z.detach().argmax(dim=-1)
        if not draws_are_replaced():
            codebook.observe(index, x)
        return codebook.mixed(z, codes), index, nats

    def _squeezed(self, index: Tensor) -> Tensor:
        """Indices `[*batch, levels, heads]` without the axes of which there is one."""
        index = index.squeeze(-1) if self.heads == 1 else index
        return index.squeeze(-1 if self.heads == 1 else -2) if self.levels == 1 else index

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Returns the quantised vectors of indices as `forward` returns them, zero where they are -1, in its layout.

        Raises:
            ValueError: when an index is no code's or no integer, or the axes of levels and heads are missing.
        """
        if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
            given = str(indices.dtype).removeprefix("torch.")
            raise Refusal(f"Quantizer: indices are integers, of any size; given {given}")
        indices = indices.long()
        index = indices if self.heads > 1 else indices.unsqueeze(-1)
        index = index if self.levels > 1 else index.unsqueeze(-2)
        if index.dim() < 3 or index.shape[-2:] != (self.levels, self.heads):
            axes = [f"{n} {word}" for n, word in ((self.levels, "levels"), (self.heads, "heads")) if n > 1]
            needed = ", ".join(["[*batch", *axes]) + "]"
            raise Refusal(f"Quantizer: indices are {needed}, as forward returns them; given {list(indices.shape)}")
        masked = (index == -1).all(dim=-1).all(dim=-1)
        if not (((index >= 0) & (index < self.codebook_size)) | masked[..., None, None]).all():
            given = f"{int(index.min())} to {int(index.max())}"
            raise Refusal(f"Quantizer: indices are 0 to {self.codebook_size - 1}, or -1 where masked; given {given}")
        levels: Any = zip(self.codebooks, index[~masked].unbind(-2), strict=True)
        total = torch.stack([codebook.vectors(i) for codebook, i in levels]).sum(dim=0)
        out = spread(self.project_out(total.flatten(-2)), ~masked, 0)
        return out.movedim(-1, 1) if self.channels_first else out

    def usage(self) -> dict[str, Tensor]:
        """Share of codes in use and their perplexity, means over codebooks, from a moving average of the draws."""
        codebooks: Any = self.codebooks
        use = torch.stack([codebook.use for codebook in codebooks]).flatten(0, 1)
        share = use / use.sum(dim=-1, keepdim=True).clamp(min=1e-30)
        perplexity = torch.special.entr(share).sum(dim=-1).exp().mean()
        return {"code_usage": (share > 1e-3 / self.codebook_size).float().mean(), "perplexity": perplexity}


def divergence(logits: Tensor) -> Tensor:
    """KL divergence from the even distribution, in nats a row, summed over heads; logits `[rows, heads, size]`."""
    log_p = log_softmax(logits)
    p = log_p.exp()
    nats = math.log(logits.shape[-1]) + (p * log_p.masked_fill(p == 0, 0)).sum(dim=-1)
    return nats.sum() / max(len(logits), 1)


def spread(rows: Tensor, there: Tensor, rest: int) -> Tensor:
    """Puts `rows` `[n, *any]` where `there` `[*batch]` is true, and `rest` elsewhere: `[*batch, *any]`."""
    full = rows.new_full((*there.shape, *rows.shape[1:]), rest)
    return full.index_put((there,), rows)
