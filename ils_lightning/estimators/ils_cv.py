"""ReinMax with the draw itself as control variate, its coefficients left out one row (this project).

    R = ReinMax,  d = z - pi;   row b, category k:  estimate = R_bk - c_bk + pi_bk sum_j c_bj,   c_bk = eta_bk d_bk
    eta_bk = shrink_bk A_bk / sum d_k^2,   A_bk = sum R_k d_k - mean R_k sum d_k
    shrink_bk = max(0, 1 - sum (R_k d_k)^2 / A_bk^2)

Sums and means run over the other rows b' != b, for each latent. E d = 0 and eta_b does not see row b: when rows are
independent the expectation is ReinMax's exactly. `shrink` takes back what may be the rows' own noise; the mean of R is
subtracted because its product with d is nothing else. pi_b sum_j c_bj, of mean zero as well, keeps the estimate's sum
over categories at zero.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option
from ils_lightning.estimators.categorical import beside, readable
from ils_lightning.estimators.distributed import sum_over_ranks
from ils_lightning.estimators.family import rows
from ils_lightning.estimators.reinmax import ReinMax

_CACHED = 2**17  # numbers of one tensor that stay in a processor's cache beside a few others
_NARROWEST = 64  # fewer columns than this make loops too short
_SMALLEST_NORM = 1e-12


class ILSCV(ReinMax):
    """ReinMax minus what other rows say about its own draw's noise; without state.

    It needs independent rows: with one or two rows (over all ranks) it is ReinMax, and it pays from some tens on.
    Where every row has the same logits and loss, random small problems keep a half of ReinMax's variance with 32 rows
    and a third with 100; where rows differ, three quarters with 100. A row that is not finite, or whose loss has no
    upstream gradient, serves no other row.

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
    equation = r"""
        d &= z - \pi \\
        R &= \text{the estimate of ReinMax} \\
        A_{bk} &= \sum_{b' \ne b} R_{b'k} d_{b'k} - \overline{R_k} \sum_{b' \ne b} d_{b'k} \\
        \eta_{bk} &= \max\left(0, 1 - \frac{\sum_{b' \ne b} (R_{b'k} d_{b'k})^2}{A_{bk}^2}\right)
            \frac{A_{bk}}{\sum_{b' \ne b} d_{b'k}^2} \\
        c_{bk} &= \eta_{bk} d_{bk} \\
        \hat\nabla_{bk} &= R_{bk} - c_{bk} + \pi_{bk} \sum_j c_{bj}
    """

    def __init__(self, temperature: Option = 1.0) -> None:
        super().__init__(temperature)

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        R, d = super().pullback(logits, pi, z, g), z - pi
        noise = leave_one_out_coefficient(R, d, self.counted) * d
        return R - noise + pi * noise.sum(dim=-1, keepdim=True)

    def rearranged(self, logits: Tensor, pi: Tensor, index: Tensor, g: Tensor) -> Tensor:
        """The same, tile by tile."""
        R = super().rearranged(logits, pi, index, g)
        if pi.shape[-2] == 1:
            R = beside(pi, R)
        R, pi, k = rows(R), rows(pi), rows(index.unsqueeze(-1))
        d = torch.neg(pi, out=torch.empty_like(R)).scatter_add_(-1, k, pi.new_ones(k.shape))
        return R.addcmul_(pi, subtract_noise(R, d, self.counted)).reshape(logits.shape)


def subtract_noise(R: Tensor, d: Tensor, counted: Tensor | None = None) -> Tensor:
    """Subtracts eta d from R `[rows, latents, categories]` in place; returns its sums over categories.

    Rows that are not `counted` (any shape, in their order) serve no other row.
    It goes over the tensors twice, for the sums over rows and for what follows from them, both times in tiles that stay
    in the processor's cache.
    """
    seen, one = [R, d], R.new_ones(1, 1, 1)
    if counted is not None and readable(R) and counted.all():
        counted = None
    if counted is not None or not (readable(R) and math.isfinite(R.sum().item())):
        finite = serving(R, counted)
        seen, one = [torch.where(finite, x, 0) for x in seen], finite.to(R)
    one = one.expand(*R.shape[:2], 1)
    number = (sum_over_ranks(one.sum(dim=0)) - one).clamp(min=1)
    total = torch.zeros_like(R[..., :1])
    width, height = _tile(R)
    sums = [
        torch.stack([_sums(r, c) for r, c in _split(columns, 0, height)]).sum(dim=0)
        for columns in _split(seen, -1, width)
    ]
    over_rows = sum_over_ranks(torch.cat(sums, dim=-1)).split(width, dim=-1)
    for columns, of_columns in zip(_split([*seen, R, d], -1, width), over_rows, strict=True):
        for r, c, estimate, own, n, part in _split([*columns, number, total], 0, height):
            noise = _coefficient(r, c, of_columns, n).mul_(own)
            estimate.sub_(noise)
            part.add_(noise.sum(dim=-1, keepdim=True))
    return total


def _tile(R: Tensor) -> tuple[int, int]:
    """Columns and rows of a tile; all where Python's calls are not what takes the time."""
    if not readable(R):
        return R.shape[-1], max(1, len(R))
    width = min(R.shape[-1], max(_NARROWEST, _CACHED // max(1, R[..., 0].numel())))
    return width, max(1, _CACHED // (width * R.shape[1]))


def _split(tensors: Sequence[Tensor], axis: int, size: int) -> Iterator[tuple[Tensor, ...]]:
    """Parts of several tensors, side by side."""
    return zip(*(x.split(size, dim=axis) for x in tensors), strict=True)


def _sums(R: Tensor, d: Tensor) -> Tensor:
    """Sums over rows of R, d, R d, d^2 and (R d)^2, `[5, latents, categories]`."""
    products = R * d
    return torch.stack([x.sum(dim=0) for x in (R, d, products, d.square(), products.square())])


def _coefficient(R: Tensor, d: Tensor, sums: Tensor, number: Tensor) -> Tensor:
    """`leave_one_out_coefficient` from the sums over all rows and the number of others, in little memory."""
    products = R * d
    squares = torch.addcmul(sums[4], products, products, value=-1)
    A = torch.sub(sums[2], products, out=products)
    rest = (sums[0] - R).div_(number)
    A.addcmul_(rest, sums[1], value=-1).addcmul_(rest, d)
    squares.div_(torch.mul(A, A, out=rest).clamp_(min=torch.finfo(A.dtype).tiny))
    A.mul_(squares.neg_().add_(1).clamp_(min=0))
    norm = torch.addcmul(sums[3], d, d, value=-1, out=rest)
    return A.div_(torch.threshold_(norm, _SMALLEST_NORM, math.inf))


def serving(R: Tensor, counted: Tensor | None) -> Tensor:
    """Which rows serve the others, for each latent `[..., latents, 1]`: those that are finite, and counted."""
    finite = torch.isfinite(R).all(dim=-1, keepdim=True)
    return finite if counted is None else finite & counted.reshape(*R.shape[:-2], 1, 1)


def leave_one_out_coefficient(R: Tensor, d: Tensor, counted: Tensor | None = None) -> Tensor:
    """Eta of each row and category, from all other rows of the batch; all `[*batch, latents, categories]`.

    Rows that are not `counted` `[*batch]` serve no other row.
    """
    finite = serving(R, counted)
    R, d = torch.where(finite, R, 0), torch.where(finite, d, 0)
    products, norm = R * d, others(d.square())
    A = others(products) - others(R) * others(d) / others(finite.to(R)).clamp(min=1)
    shrink = (1 - others(products.square()) / A.square().clamp(min=torch.finfo(A.dtype).tiny)).clamp(min=0)
    return torch.where(norm > _SMALLEST_NORM, shrink * A / norm.clamp(min=_SMALLEST_NORM), 0)


def others(x: Tensor) -> Tensor:
    """Sum over all rows of all ranks but the row's own, for each latent."""
    rows = tuple(range(x.dim() - 2))
    return sum_over_ranks(x.sum(dim=rows, keepdim=True) if rows else x) - x
