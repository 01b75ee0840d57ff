"""REINFORCE, the score-function estimator (Williams, 1992, 10.1007/BF00992696).

    z ~ pi;   estimate = (f(z) - b)(z - pi), averaged over samples

Unbiased for any f, differentiable or not, and any baseline b that does not see z.
"""

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.baselines import Baseline
from ils_lightning.estimators.categorical import draw, softmax
from ils_lightning.estimators.credit import Advantage, CostsLater


class Reinforce(CostsLater, Estimator):
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
    equation = r"""
        z &\sim \pi \\
        \hat\nabla &= \left(f(z) - b\right) (z - \pi), \quad \text{averaged over samples}
    """
    cost = "S"
    unbiased = True
    exact_for = "all"

    def __init__(self, samples: int = 1, baseline: Baseline | None = None) -> None:
        super().__init__()
        self.samples = self.whole("samples", samples, 1)
        self.baseline = baseline
        self.pooled = self.pooled_by_state = baseline is not None and baseline.pooled

    def evaluations(self, latents: int, categories: int) -> int:
        return self.samples

    def build(self, latents: int, categories: int) -> None:
        if self.baseline is not None:
            self.baseline.build(latents, categories)

    def later(self, logits: Tensor) -> Advantage:
        """The cost less the baseline.

        Raises:
            ValueError: when the baseline has weights, which learn from estimates that are not made here.
        """
        if self.baseline is None:
            return lambda cost, mask: cost
        self.baseline.build(*logits.shape[-2:])
        if next(self.baseline.parameters(), None) is not None:
            raise Refusal(
                f"Reinforce takes later costs with no {type(self.baseline).__name__}, whose weights learn from "
                "|estimate|^2; give MovingAverage(), or hand in cost - critic(state).detach() with a critic of your own"
            )
        return self._above(self.baseline, logits.detach())

    def _above(self, baseline: Baseline, logits: Tensor) -> Advantage:
        b = baseline(logits)  # read now: costs of later steps of the same path may come in before this one's

        def advantage(cost: Tensor, mask: Tensor) -> Tensor:
            if self.training and mask.any():
                baseline.update(torch.where(mask, cost, float("nan")).unsqueeze(0))
            return cost - b

        return advantage

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = softmax(logits.detach())
        z = draw(pi, self.samples)
        score = z - pi
        loss = evaluate(f, z.to(logits.dtype))
        advantage = loss.detach() - self._baseline(logits.detach(), loss.detach())
        estimate = (advantage[..., None, None] * score).mean(dim=0)
        return loss.mean(dim=0), estimate.to(logits.dtype)

    def _baseline(self, logits: Tensor, loss: Tensor) -> Tensor | float:
        if self.baseline is None:
            return 0.0
        b, update = self.baseline(logits), self.baseline.update
        if self.training and type(self.baseline).update is not Baseline.update:
            self.learn_later(logits, lambda used: update(torch.where(used, loss.detach(), float("nan"))))
        return b
