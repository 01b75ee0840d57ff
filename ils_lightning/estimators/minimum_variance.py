"""The minimum-variance member of the straight-through family, MVE (AISTATS 2026, openreview 5LZQfHUVER).

Paper: Generalized and Optimal Straight-Through Estimators.

    z ~ pi = softmax(theta), drawn category k;   J = diag(pi) - pi pi^T;
    estimate = S(k)^T g, where S(1) .. S(K) minimise
    1/2 sum_x pi_x |S(x)|^2 + tau/4 sum_{i,x,c} [pi_x S_ic(x) + pi_i S_xc(i) - 1(i = x) J_ic]^2
    subject to sum_x pi_x S(x) = J (exact for linear f); a bracket of zero is exactness for quadratic f.

With tau = t / s, s + t = 1, and D_ij = s + t (pi_i + pi_j), the solution needs one K x K system:
    A V = B,   A = diag(sum_j pi_j / D_ij) - C,   C_ij = t pi_i pi_j / (D_ij (s + t pi_i)),
    B_i = J_i / (s + 2 t pi_i);   S_i(x) = [(s + t pi_i) V_i - t pi_i V_x + t 1(i = x) J_i] / D_ix
tau = 0 is the straight-through estimator; tau = infinity is exact for quadratic f, and ReinMax at K = 2.
"""

from math import inf
from typing import Literal

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option, per_row
from ils_lightning.estimators.categorical import jacobian
from ils_lightning.estimators.sampler import Pullback


class MinimumVariance(Pullback):
    """Keeps straight-through's exactness for linear f, and quadratic f's as far as `penalty` asks, at least variance.

    The variance is that of the weights S, which do not depend on f; on a given f another estimator can have less. Each
    row costs the solution of a K x K system in float64: meant for tens of categories, not for hundreds.

    Args:
        penalty: tau, the price of inexactness for quadratic f, from 0 to infinity. The paper lets it grow from 1 to
            1e6, geometrically over the epochs.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> loss = MinimumVariance()(logits, lambda z: z[..., 0].sum(-1))
        >>> loss.sum().backward()
    """

    source = "AISTATS 2026, openreview 5LZQfHUVER"
    equation = r"""
        z &\sim \pi, \quad k \text{ the drawn category} \\
        J &= \operatorname{diag}(\pi) - \pi \pi^\top \\
        \hat\nabla &= S(k)^\top g, \quad S(1), \dots, S(K) \text{ minimise} \\
        & \tfrac{1}{2} \sum_x \pi_x \lVert S(x)\rVert^2 + \tfrac{\tau}{4} \sum_{i, x, c}
            \left[\pi_x S_{ic}(x) + \pi_i S_{xc}(i) - \mathbf{1}(i = x) J_{ic}\right]^2 \\
        & \text{subject to } \sum_x \pi_x S(x) = J
    """

    def __init__(self, penalty: Option = inf) -> None:
        super().__init__()
        unlimited = isinstance(penalty, float) and penalty == inf
        if unlimited:
            self.penalty = inf
            self.ranges["penalty"] = (0.0, False)
        else:
            self.option("penalty", penalty, strict=False)

    @property
    def exact_for(self) -> Literal["none", "linear", "quadratic", "all"]:
        return "quadratic" if isinstance(self.penalty, float) and self.penalty == inf else "linear"

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        tau = torch.as_tensor(per_row(self.penalty, logits), dtype=torch.float64, device=pi.device)
        # Beyond 1e12 the system is singular to rounding; infinity differs by less than that.
        s = torch.where(tau > 1e12, 0, 1 / (1 + tau))
        return apply_weights(pi.double(), z.double(), g.double(), s, 1 - s).to(pi.dtype)


def apply_weights(pi: Tensor, z: Tensor, g: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Returns S(k)^T g, by one solve with the transposed system instead of K right-hand sides.

    Categories of probability zero may meet in 0 / 0 at s = 0; they count as zero.
    """
    drawn = (pi * z).sum(dim=-1, keepdim=True)
    w = g / (s + t * (pi + drawn))
    coefficients = w * (s + t * pi) - z * (t * w * pi).sum(dim=-1, keepdim=True)
    a = system(pi, s, t)
    y = torch.linalg.solve(a.mT, coefficients.unsqueeze(-1)).squeeze(-1)
    through_v = _scaled_jacobian(pi, y, s, t)
    return through_v + t * jacobian(pi, z * w)


def system(pi: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Returns A `[*batch, latents, K, K]`, its null vector 1 at s = 0 lifted by 1 pi^T, which B does not meet."""
    rows, columns = pi.unsqueeze(-1), pi.unsqueeze(-2)
    s, t = _matrix(s), _matrix(t)
    ratio = _divide(columns, s + t * (rows + columns))
    coupling = t * _divide(rows, s + t * rows) * ratio
    a = torch.diag_embed(ratio.sum(dim=-1)) - coupling
    return a + torch.where(s == 0, columns, 0)


def _matrix(value: Tensor) -> Tensor:
    return value.unsqueeze(-1) if value.dim() else value


def _divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator, 0)


def _scaled_jacobian(pi: Tensor, y: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Returns B^T y."""
    u = y * _divide(pi, s + 2 * t * pi)
    return u - pi * u.sum(dim=-1, keepdim=True)
