"""Rao-Blackwellized Stochastic Gradients for Discrete Distributions.

Liu, Regier, Tripuraneni, Jordan and McAuliffe, 2019, 1810.04777.

    C = the k most probable configurations, P = p(C);   z' ~ p restricted to the others
    estimate = sum_{z in C} p(z) f(z) (z - pi) + (1 - P) f(z') (z' - pi)

Unbiased; the loss is summed the same way. With several latents C is taken in the joint space of all of them. There is
no baseline: a constant added to f adds variance where much of the probability lies outside C.
"""

import torch
from torch import Tensor

from ils_lightning.errors import require_at_least
from ils_lightning.estimators import joint
from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.categorical import draw_index, softmax


class SumAndSample(Estimator):
    """Sums over the likeliest configurations and draws once among the rest.

    Args:
        largest: k, configurations summed exactly; with all but one of them the gradient is exact.
        limit: largest joint space, categories ** latents; beyond it a ValueError is raised.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> SumAndSample(largest=2)(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
        >>> logits.grad[0, 0]
        tensor([ 0.2222, -0.1111, -0.1111])
    """

    source = "Liu et al. 2019, 1810.04777"
    equation = r"""
        C &= \text{the } k \text{ most probable configurations} \\
        P &= p(C) \\
        z' &\sim p \text{ off } C \\
        \hat\nabla &= \sum_{z \in C} p(z) f(z) (z - \pi) + (1 - P) f(z') (z' - \pi)
    """
    cost = "min(largest + 1, K^L)"
    unbiased = True
    exact_for = "all"

    def __init__(self, largest: int = 1, limit: int = 2**16) -> None:
        super().__init__()
        require_at_least(1, "SumAndSample", limit=limit)
        self.largest, self.limit = self.whole("largest", largest, 0), limit

    def evaluations(self, latents: int, categories: int) -> int:
        return min(self.largest + 1, categories**latents)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        joint.check_size("SumAndSample", logits, self.limit)
        theta = logits.detach()
        pi = softmax(theta)
        weight, index = self._choose(joint.log_prob(theta).exp(), self.evaluations(*theta.shape[-2:]) - 1)
        z = joint.configurations(index, pi)
        score = z - pi
        f_z = evaluate(f, z.to(logits.dtype))
        estimate = ((weight * f_z.detach())[..., None, None] * score).sum(dim=0)
        return (weight.to(f_z.dtype) * f_z).sum(dim=0), estimate.to(logits.dtype)

    @staticmethod
    def _choose(p: Tensor, largest: int) -> tuple[Tensor, Tensor]:
        """Weights and numbers `[largest + 1, *batch]` of the configurations; an impossible one never is among them."""
        top = p.topk(largest, dim=-1)
        others = p.scatter(-1, top.indices, 0)
        mass = others.sum(dim=-1, keepdim=True)
        drawn = draw_index(torch.where(mass > 0, others, p)).unsqueeze(-1)
        index = torch.where(top.values > 0, top.indices, drawn)
        return torch.cat((top.values, mass), -1).movedim(-1, 0), torch.cat((index, drawn), -1).movedim(-1, 0)
