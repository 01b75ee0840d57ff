"""ReinMax with the draw itself as control variate, its coefficients left out one row (this project).

    R = ReinMax,  d = z - pi;   row b, category k:  estimate = R_bk - c_bk + pi_bk sum_j c_bj,   c_bk = eta_bk d_bk
    eta_bk = shrink_bk A_bk / sum d_k^2,   A_bk = sum R_k d_k - mean R_k sum d_k
    shrink_bk = max(0, 1 - sum (R_k d_k)^2 / A_bk^2)

Sums and means run over the other rows b' != b, for each latent. E d = 0 and eta_b does not see row b: when rows are
independent the expectation is ReinMax's exactly. `shrink` takes back what may be the rows' own noise; the mean of R is
subtracted because its product with d is nothing else. pi_b sum_j c_bj, of mean zero as well, keeps the estimate's sum
over categories at zero.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option
from ils_lightning.estimators.distributed import sum_over_ranks
from ils_lightning.estimators.reinmax import ReinMax


class ILSCV(ReinMax):
    """ReinMax minus what other rows say about its own draw's noise; without state.

    It needs independent rows: with one or two rows (over all ranks) it is ReinMax, and it pays from some tens on.
    Where every row has the same logits and loss, random small problems keep a half of ReinMax's variance with 32 rows
    and a third with 100; where rows differ, three quarters with 100. A non-finite row serves no other row.

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
        noise = leave_one_out_coefficient(R, d) * d
        return R - noise + pi * noise.sum(dim=-1, keepdim=True)


def leave_one_out_coefficient(R: Tensor, d: Tensor) -> Tensor:
    """Eta of each row and category, from all other rows of the batch; all `[*batch, latents, categories]`."""
    finite = torch.isfinite(R).all(dim=-1, keepdim=True)
    R, d = torch.where(finite, R, 0), torch.where(finite, d, 0)
    products, norm = R * d, others(d.square())
    A = others(products) - others(R) * others(d) / others(finite.to(R)).clamp(min=1)
    shrink = (1 - others(products.square()) / A.square().clamp(min=torch.finfo(A.dtype).tiny)).clamp(min=0)
    return torch.where(norm > 1e-12, shrink * A / norm.clamp(min=1e-12), 0)


def others(x: Tensor) -> Tensor:
    """Sum over all rows of all ranks but the row's own, for each latent."""
    rows = tuple(range(x.dim() - 2))
    return sum_over_ranks(x.sum(dim=rows, keepdim=True) if rows else x) - x
