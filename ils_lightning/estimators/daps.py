"""Discrete autoencoding via policy search, DAPS (Drolet et al., 2026, 2509.24716): a step to a reweighted target.

    z_1..z_S ~ pi;   A_i = mean f - f_i;   q* ~ pi exp((A - beta log pi) / (eta + beta)), the best within a trust region
    w_i = exp((A_i - beta log pi(z_i)) / (eta + beta)), normalised over i;   estimate = -sum_i w_i (z_i - pi)
    eta of each row such that 1 / sum_i w_i^2, the effective sample size, is a share of S

The estimate is the gradient of the draws' weighted likelihood, a step of length one towards q*: it does not scale with
f, and is no estimate of d E f. Like ILS it moves to a distribution that serves the loss better, which here the draws
and not the slopes say. The paper asks the effective sample size of the batch's mean, and its program follows one eta by
gradient steps; here each row solves for its own, so that no row's step depends on the others'.
"""

from typing import Any

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Loss, evaluate
from ils_lightning.estimators.categorical import draw, log_prob, softmax
from ils_lightning.estimators.several import Several

_RANGE = 20.0
"""Natural logarithm of the largest and smallest eta, relative to the spread of f, that are tried."""
_HALVINGS = 40


class Daps(Several):
    """Fits the draws, weighed by how well they serve the loss, within a trust region set by their effective number.

    For losses without useful slopes and steep ones: what one draw gains by never counts more than the others allow.
    Each row has its own eta. In an autoencoder the KL term stays outside, as for any estimator here; beta puts a
    multiple of the draws' entropy inside.

    Args:
        samples: draws a row, at least 2.
        effective: share of the draws that the weights should leave effective, in (0, 1).
        beta: weight of the entropy in the target; 0 for none.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> Daps()(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
    """

    source = "Drolet et al. 2026, 2509.24716"
    equation = r"""
        z_1, \dots, z_S &\sim \pi \\
        A_i &= \overline{f} - f_i \\
        w_i &\propto \exp\frac{A_i - \beta \log \pi(z_i)}{\eta + \beta} \\
        \sum_i w_i &= 1, \quad \eta \text{ such that } 1 / \textstyle\sum_i w_i^2 \text{ is a share of } S \\
        \hat\nabla &= -\sum_i w_i \, (z_i - \pi)
    """
    unbiased = False
    exact_for = "none"
    purpose = "to weigh them against each other"

    effective: Any
    beta: Any

    def __init__(self, samples: int = 8, effective: float = 0.5, beta: float = 0.0) -> None:
        super().__init__(samples)
        if not (isinstance(effective, float) and 0 < effective < 1):
            raise Refusal(f"Daps: effective must be a number in (0, 1); given {effective}")
        self.option("effective", effective)
        self.option("beta", beta, strict=False)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = softmax(logits.detach())
        z = draw(pi, self.samples)
        score, log_pi = z - pi, log_prob(logits.detach().expand_as(z), z).sum(dim=-1)  # f may write into z
        loss = evaluate(f, z.to(logits.dtype))
        cost = loss.detach().to(pi.dtype)
        weights = self.weights(cost.mean(dim=0) - cost - self.beta * log_pi)
        estimate = -(weights[..., None, None] * score).sum(dim=0)
        return loss.mean(dim=0), estimate.to(logits.dtype)

    def weights(self, advantage: Tensor) -> Tensor:
        """Normalised weights of the draws `[samples, *batch]`, at each row's eta with the wanted effective number."""
        advantage = torch.where(torch.isfinite(advantage), advantage, 0)
        spread = advantage.square().mean(dim=0).sqrt()
        scaled = advantage / spread.clamp(min=torch.finfo(advantage.dtype).tiny)
        low, high = torch.full_like(spread, -_RANGE), torch.full_like(spread, _RANGE)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            share = 1 / (scaled * (-middle).exp()).softmax(dim=0).square().sum(dim=0) / self.samples
            short = share < self.effective
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return (scaled * (-high).exp()).softmax(dim=0)
