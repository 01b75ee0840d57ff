"""VIMCO: Variational Inference for Monte Carlo Objectives (Mnih and Rezende, 2016, 1602.06725).

    z_1..z_S ~ pi,   l_i = -f(z_i) the log-weights,   L = log 1/S sum_i exp(l_i)
    L_i = L with l_i replaced by the mean of the other l_j
    objective E[-L];   estimate = -sum_i (L - L_i)(z_i - pi)

Unbiased for its own objective, the S-sample bound, not for E f, which bounds it from above.
"""

import math

import torch
from torch import Tensor

from ils_lightning.estimators.base import Loss, evaluate
from ils_lightning.estimators.categorical import draw, softmax
from ils_lightning.estimators.several import Several


class Vimco(Several):
    """Trains the importance-weighted bound; f is the loss of one sample, minus its log-weight.

    The loss returned is -L, differentiable in whatever f holds. So if the weight contains log q(z), write it into f
    attached to the logits (`categorical.log_prob(logits, z).sum(-1)`): that part of the gradient reaches them through
    f, and the estimate adds what the draws' own probabilities contribute. `DiscreteVAE` does so, without a KL term
    beside it: -log p(x | z) alone would make no bound of -log p(x).

    Args:
        samples: draws a row, S, at least 2.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> Vimco(samples=5)(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
    """

    source = "Mnih and Rezende 2016, 1602.06725"
    equation = r"""
        z_1, \dots, z_S &\sim \pi \\
        l_i &= -f(z_i) \\
        L &= \log \frac{1}{S} \sum_i e^{l_i} \\
        L_i &= L \text{ with } l_i \text{ replaced by the mean of the others} \\
        \hat\nabla &= -\sum_i (L - L_i) (z_i - \pi)
    """
    needs_log_weight = True

    def __init__(self, samples: int = 5) -> None:
        super().__init__(samples)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = softmax(logits.detach())
        z = draw(pi, self.samples)
        score = z - pi
        log_weight = -evaluate(f, z.to(logits.dtype))
        bound = torch.logsumexp(log_weight, dim=0) - math.log(self.samples)
        signal = bound.detach() - self._without_each(log_weight.detach())
        estimate = -(signal[..., None, None] * score).sum(dim=0)
        return -bound, estimate.to(logits.dtype)

    def _without_each(self, log_weight: Tensor) -> Tensor:
        """L_i `[samples, *batch]`."""
        others = (log_weight.sum(dim=0) - log_weight) / (self.samples - 1)
        own = torch.eye(self.samples, dtype=torch.bool, device=log_weight.device)
        own = own.reshape(self.samples, self.samples, *[1] * (log_weight.dim() - 1))
        return torch.where(own, others, log_weight).logsumexp(dim=1) - math.log(self.samples)
