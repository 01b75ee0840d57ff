"""Marginalisation by entmax (Correia et al., 2020, 2007.01919; Peters, Niculae and Martins, 2019, 1905.05702).

Papers: Efficient Marginalization of Discrete and Structured Latent Variables via Sparsity; Sparse Sequence-to-Sequence
Models.

    xi = entmax_alpha(theta) = max(0, (alpha - 1) theta - c)^(1 / (alpha - 1));   objective = sum_z xi(z) f(z);
    estimate_j = s_j (F_j - sum s F / sum s),   F_j = E_xi[f(z) | z has category j],   s_j = xi_j^(2 - alpha), 0 off it

alpha = 2 is sparsemax. The mapping is that of the entmax library, an optional dependency.
"""

from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.loss import refuse_transforms
from ils_lightning.estimators.sparsemax_marginal import SparsemaxMarginal


class EntmaxMarginal(SparsemaxMarginal):
    """Sums f over the states to which entmax gives weight: supports wider than sparsemax's, smoother at their edge.

    Args:
        alpha: greater than 1; nearer to 1 the supports widen towards softmax's.
        limit: largest number of states; beyond it a ValueError is raised.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[3.0, 2.5, 0.0]]], requires_grad=True)
        >>> EntmaxMarginal()(logits, lambda z: z[..., 0].sum(-1)).backward()
    """

    source = "Correia et al. 2020, 2007.01919"
    equation = r"""
        \xi &= \operatorname{entmax}_\alpha(\theta) = \max\left(0, (\alpha - 1) \theta - c\right)^{1 / (\alpha - 1)}
            \\
        \text{objective} &= \sum_z \xi(z) f(z) \\
        F_j &= \mathbb{E}_\xi[f(z) \mid z \text{ has category } j] \\
        s_j &= \xi_j^{2 - \alpha}, \text{ 0 off the support} \\
        \hat\nabla_j &= s_j \left(F_j - \frac{\sum_i s_i F_i}{\sum_i s_i}\right)
    """
    kind = "marginal"
    cost = "K^L"

    def __init__(self, alpha: float = 1.5, limit: int = 2**16) -> None:
        super().__init__(limit)
        if not 1 < alpha < float("inf"):
            raise Refusal(f"EntmaxMarginal: alpha must be greater than 1 and finite; given {alpha}")
        self.alpha = alpha
        self.ranges["alpha"] = (1.0, True)

    def build(self, latents: int, categories: int) -> None:
        super().build(latents, categories)
        _library()

    def probabilities(self, theta: Tensor) -> Tensor:
        refuse_transforms("EntmaxMarginal", "takes its probabilities from another package")
        # Logits this far below the largest lie outside the support; the library would return NaN at -inf.
        lowest = -1 / (self.alpha - 1) - 1
        theta = (theta - theta.amax(dim=-1, keepdim=True)).clamp(min=lowest)
        if self.alpha == 1.5:
            return _library().entmax15(theta, dim=-1)
        return _library().entmax_bisect(theta, alpha=self.alpha, dim=-1)

    def slopes(self, xi: Tensor) -> Tensor:
        return torch.where(xi > 0, xi.clamp(min=torch.finfo(xi.dtype).tiny) ** (2 - self.alpha), 0)


def _library() -> ModuleType:
    try:
        return import_module("entmax")
    except ModuleNotFoundError:
        raise Refusal(
            "EntmaxMarginal needs the entmax library: pip install 'ils-lightning[entmax]'. "
            "SparsemaxMarginal does without it"
        ) from None
