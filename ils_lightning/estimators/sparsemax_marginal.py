"""Marginalisation by sparsemax (Correia, Niculae, Aziz and Martins, 2020, 2007.01919).

Paper: Efficient Marginalization of Discrete and Structured Latent Variables via Sparsity.

    xi = sparsemax(theta), the projection of theta onto the simplex;   objective = sum_z xi(z) f(z), over the support;
    estimate_j = s_j (F_j - sum s F / sum s),   F_j = E_xi[f(z) | z has category j],   s_j = 1 on the support, else 0

The objective is the expectation under sparsemax, not under softmax: loss and estimate are exact for that one. With
several latents the states are the product of their supports.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.categorical import one_hot
from ils_lightning.estimators.compiling import COUNTS_SUPPORTS
from ils_lightning.estimators.distribution import Categorical, Distribution
from ils_lightning.estimators.intermediate import simplex
from ils_lightning.estimators.loss import refuse_transforms


class SparsemaxMarginal(Estimator):
    """Sums f over the few states to which sparsemax gives weight; the loss is that sum.

    Rows of a batch are evaluated together, so the number of states is the product over latents of the largest support
    in the batch, at most categories ** latents. `distribution` is the sparse one, of which validation draws and models
    take their KL terms and codes.

    Args:
        limit: largest number of states; beyond it a ValueError is raised.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[3.0, 2.5, 0.0]]], requires_grad=True)
        >>> SparsemaxMarginal()(logits, lambda z: z[..., 0].sum(-1)).item()
        0.75
    """

    source = "Correia et al. 2020, 2007.01919"
    equation = r"""
        \xi &= \operatorname{sparsemax}(\theta), \text{ the projection onto the simplex} \\
        \text{objective} &= \sum_z \xi(z) f(z) \\
        F_j &= \mathbb{E}_\xi[f(z) \mid z \text{ has category } j] \\
        s_j &= 1 \text{ on the support, else 0} \\
        \hat\nabla_j &= s_j \left(F_j - \frac{\sum_i s_i F_i}{\sum_i s_i}\right)
    """
    kind = "marginal"
    cost = "K^L"
    hard = False
    uncompiled = COUNTS_SUPPORTS

    def __init__(self, limit: int = 2**16) -> None:
        super().__init__()
        if limit < 1:
            raise Refusal(f"{type(self).__name__}: limit must be at least 1; given {limit}")
        self.limit = limit

    def probabilities(self, theta: Tensor) -> Tensor:
        """Maps logits `[..., categories]` to the sparse distribution xi."""
        return simplex(theta - theta.amax(dim=-1, keepdim=True))

    def distribution(self, logits: Tensor) -> Distribution:
        theta = logits.float() if logits.element_size() < 4 else logits
        xi = self.probabilities(theta) if not torch.is_grad_enabled() else Sparse.apply(theta, self)
        least = torch.finfo(xi.dtype).tiny  # below it 1 / xi, the slope of the logarithm, is not finite
        return Categorical(xi.clamp(min=least).log().masked_fill(xi < least, float("-inf")))

    def slopes(self, xi: Tensor) -> Tensor:
        """Returns s, by which d xi / d theta = diag(s) - s s^T / sum s."""
        return (xi > 0).to(xi.dtype)

    def evaluations(self, latents: int, categories: int) -> int:
        """Largest number of states; the supports in the batch decide how many are evaluated."""
        return categories**latents

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        refuse_transforms(type(self).__name__, "counts the support of each row")
        theta = logits.detach()
        xi = self.probabilities(theta.float() if theta.element_size() < 4 else theta)
        chosen, weight = self._states(xi)
        loss = evaluate(f, one_hot(chosen, xi).to(logits.dtype))
        weighted = torch.where(weight > 0, weight * loss, 0)
        shares = weighted.detach().unsqueeze(-1).expand(chosen.shape)
        total = torch.zeros_like(xi, dtype=shares.dtype).scatter_add_(-1, chosen.movedim(0, -1), shares.movedim(0, -1))
        mean = total / torch.where(xi > 0, xi, 1)
        s = self.slopes(xi)
        centre = (s * mean).sum(dim=-1, keepdim=True) / s.sum(dim=-1, keepdim=True)
        return weighted.sum(dim=0).to(loss.dtype), (s * (mean - centre)).to(logits.dtype)

    def _states(self, xi: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the categories of states `[states, *batch, latents]` and the states' weights `[states, *batch]`."""
        supports = (xi > 0).sum(dim=-1).reshape(-1, xi.shape[-2])
        sizes = supports.amax(dim=0).tolist() if len(supports) else [0] * xi.shape[-2]
        self._check_size(sizes)
        ordered, category = xi.sort(dim=-1, descending=True)
        # Rows with a smaller support repeat their likeliest category, at weight zero: f never sees a masked one.
        category = torch.where(ordered > 0, category, category[..., :1])
        ranks = torch.cartesian_prod(*(torch.arange(size, device=xi.device) for size in sizes))
        ranks = ranks.reshape(-1, *[1] * (xi.dim() - 2), xi.shape[-2], 1).expand(-1, *xi.shape[:-1], 1)
        chosen = category.expand(len(ranks), *xi.shape).gather(-1, ranks).squeeze(-1)
        weight = ordered.expand(len(ranks), *xi.shape).gather(-1, ranks).squeeze(-1).prod(dim=-1)
        return chosen, weight

    def _check_size(self, sizes: list[int]) -> None:
        states = torch.tensor(sizes, dtype=torch.float64).prod().item()
        if states > self.limit:
            raise Refusal(
                f"{type(self).__name__} enumerates the product of the latents' supports; {sizes} make {states:g} "
                f"states, more than limit = {self.limit}. LeaveOneOut is unbiased at any size"
            )


class Sparse(torch.autograd.Function):
    """The sparse distribution xi of logits `[..., categories]`; backward is its Jacobian."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, estimator: SparsemaxMarginal) -> Tensor:
        xi = estimator.probabilities(theta)
        ctx.save_for_backward(estimator.slopes(xi))
        return xi

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple:
        (s,) = ctx.saved_tensors
        return s * (g - (s * g).sum(dim=-1, keepdim=True) / s.sum(dim=-1, keepdim=True)), None
