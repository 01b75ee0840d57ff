"""REINFORCE, the score-function estimator (Williams, 1992, 10.1007/BF00992696).

    z ~ pi;   estimate = (f(z) - b)(z - pi), averaged over samples

Unbiased for any f, differentiable or not, and any baseline b that does not see z.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.baselines import Baseline
from ils_lightning.estimators.categorical import draw, softmax


class Reinforce(Estimator):
    """Weighs the score of each draw by its loss.

    Args:
        samples: draws a row.
        baseline: what to subtract from the loss: `MovingAverage()`, `NetworkBaseline()`; None subtracts nothing.

    Example:
        >>> import torch
        >>> from ils_lightning.estimators import MovingAverage
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> Reinforce(baseline=MovingAverage())(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
    """

    source = "Williams 1992, 10.1007/BF00992696"
    cost = "S"
    unbiased = True
    exact_for = "all"

    def __init__(self, samples: int = 1, baseline: Baseline | None = None) -> None:
        super().__init__()
        if samples < 1:
            raise ValueError(f"Reinforce: samples must be at least 1; given {samples}")
        self.samples, self.baseline = samples, baseline
        self.pooled = self.pooled_by_state = baseline is not None and baseline.pooled

    def evaluations(self, latents: int, categories: int) -> int:
        return self.samples

    def build(self, latents: int, categories: int) -> None:
        if self.baseline is not None:
            self.baseline.build(latents, categories)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = softmax(logits.detach())
        z = draw(pi, self.samples)
        loss = evaluate(f, z.to(logits.dtype))
        advantage = loss.detach() - self._baseline(logits.detach(), loss)
        estimate = (advantage[..., None, None] * (z - pi)).mean(dim=0)
        return loss.mean(dim=0), estimate.to(logits.dtype)

    def _baseline(self, logits: Tensor, loss: Tensor) -> Tensor | float:
        if self.baseline is None:
            return 0.0
        b, update = self.baseline(logits), self.baseline.update
        if self.training and type(self.baseline).update is not Baseline.update:
            self.learn_later(logits, lambda used: update(torch.where(used, loss.detach(), float("nan"))))
        return b
