"""ReinMax with the draw itself as control variate, its coefficient left out one row (this project).

    R = ReinMax,  d = z - pi;   row b:  estimate = R_b - eta_b d_b
    eta_b = shrink_b sum_b' R_b'.d_b' / sum_b' |d_b'|^2,   shrink_b = max(0, 1 - sum a_b'^2 / (sum a_b')^2),  a = R.d

Sums run over the other rows b' != b, for each latent. E d = 0 and eta_b does not see row b: when rows are independent
the expectation is ReinMax's exactly. `shrink` is the share of (sum a)^2 that is not the rows' own noise.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option
from ils_lightning.estimators.distributed import sum_over_ranks
from ils_lightning.estimators.reinmax import ReinMax


class ILSCV(ReinMax):
    """ReinMax minus what other rows say about its own draw's noise; without state.

    It needs independent rows: with one or two rows (over all ranks) it is ReinMax, and from about eight on it pays.
    A non-finite row serves no other row.

    Args:
        temperature: tau of ReinMax's backward pass; draws always follow softmax(logits).

    Example:
        >>> import torch
        >>> logits = torch.zeros(16, 1, 3, requires_grad=True)
        >>> loss = ILSCV()(logits, lambda z: z[..., 0].square().sum(-1))
        >>> loss.sum().backward()
    """

    pooled = True
    source = "this project"

    def __init__(self, temperature: Option = 1.0) -> None:
        super().__init__(temperature)

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        R, d = super().pullback(logits, pi, z, g), z - pi
        return R - leave_one_out_coefficient(R, d) * d


def leave_one_out_coefficient(R: Tensor, d: Tensor) -> Tensor:
    """Eta `[*batch, latents, 1]` of each row, from all other rows of the batch `[*batch, latents, categories]`."""
    a = (R * d).sum(dim=-1, keepdim=True)
    square = d.square().sum(dim=-1, keepdim=True)
    finite = torch.isfinite(a)
    a, square = torch.where(finite, a, 0), torch.where(finite, square, 0)
    total, noise, norm = others(a), others(a.square()), others(square)
    shrink = (1 - noise / total.square().clamp(min=torch.finfo(a.dtype).tiny)).clamp(min=0)
    return torch.where(norm > 1e-12, shrink * total / norm.clamp(min=1e-12), 0)


def others(x: Tensor) -> Tensor:
    """Sum over all rows of all ranks but the row's own, for each latent."""
    rows = tuple(range(x.dim() - 2))
    return sum_over_ranks(x.sum(dim=rows, keepdim=True) if rows else x) - x
