"""MuProp: Unbiased Backpropagation for Stochastic Neural Networks (Gu, Levine, Sutskever and Mnih, 2016, 1511.05176).

    z ~ pi;   with f and its gradient f' at the mean pi:
    estimate = [f(z) - eta (f(pi) + f'(pi).(z - pi))] (z - pi) + eta J(pi) f'(pi),   J(q) v = q (v - q.v)

Unbiased for any eta; at eta = 1 the score-function part vanishes on linear f. Dots run over all latents. f is seen at
the relaxed point pi without training there: its parameters learn at the draws only.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Estimator, Loss, Option, evaluate, per_row
from ils_lightning.estimators.categorical import draw, jacobian, softmax
from ils_lightning.estimators.compiling import ASKS_DERIVATIVES
from ils_lightning.estimators.loss import DIFFERENTIATES, refuse_transforms, slopes


class MuProp(Estimator):
    """REINFORCE around the first-order Taylor expansion of f at the mean, whose own gradient is added back exactly.

    Args:
        samples: draws a row; they share the expansion.
        eta: weight of the expansion; 0 is REINFORCE.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> MuProp()(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
        >>> logits.grad[0, 0]
        tensor([ 0.2222, -0.1111, -0.1111])
    """

    source = "Gu et al. 2016, 1511.05176"
    equation = r"""
        z &\sim \pi \\
        f' &= \nabla f(\pi) \\
        \hat\nabla &= \left[f(z) - \eta \left(f(\pi) + f' \cdot (z - \pi)\right)\right] (z - \pi) + \eta \, J_\pi f'
    """
    cost = "S + 1"
    calls = 2
    unbiased = True
    exact_for = "all"
    needs_gradient = True
    uncompiled = ASKS_DERIVATIVES

    def __init__(self, samples: int = 1, eta: Option = 1.0) -> None:
        super().__init__()
        self.samples = self.whole("samples", samples, 1)
        self.option("eta", eta, strict=False)

    def evaluations(self, latents: int, categories: int) -> int:
        return self.samples + 1

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = softmax(logits.detach())
        z = draw(pi, self.samples)
        score = z - pi
        loss = evaluate(f, z.to(logits.dtype))
        mean, slope = self._expansion(pi.to(logits.dtype), f)
        eta = per_row(self.eta, logits)
        linear = mean + (slope * score).sum(dim=(-2, -1))
        advantage = loss.detach()[..., None, None] - eta * linear[..., None, None]
        estimate = (advantage * score).mean(dim=0) + eta * jacobian(pi, slope)
        return loss.mean(dim=0), estimate.to(logits.dtype)

    def _expansion(self, pi: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        """f(pi) `[*batch]` and f'(pi)."""
        refuse_transforms(type(self).__name__, DIFFERENTIATES)
        with torch.enable_grad():
            point = pi.requires_grad_()
            value = evaluate(f, point.unsqueeze(0)).squeeze(0)
            (slope,) = slopes(type(self).__name__, value, point)
        return value.detach(), slope
