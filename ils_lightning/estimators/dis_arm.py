"""DisARM: An Antithetic Gradient Estimator for Binary Latent Variables (Dong, Mnih and Tucker, 2020, 2006.10680).

    u ~ Uniform(0, 1) per latent;   b = 1[u > sigmoid(-t)],   b' = 1[u < sigmoid(t)]
    estimate for t = 1/2 (f(b) - f(b'))(b - b') sigmoid(|t|)

ARM with u integrated out given (b, b'): unbiased for any f, its variance never above ARM's. Found at the same time as
U2G by Yin, Ho, Yan, Qian and Zhou (2020, "Probabilistic Best Subset Selection via Gradient-Based Optimization").
"""

import torch
from torch import Tensor

from ils_lightning.estimators import bernoulli
from ils_lightning.estimators.base import Estimator, Loss, evaluate


class DisArm(Estimator):
    """Weighs the difference of two antithetic draws by where they differ.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 3, 2, requires_grad=True)
        >>> DisArm()(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
    """

    source = "Dong, Mnih and Tucker 2020, 2006.10680"
    cost = "2"
    unbiased = True
    exact_for = "all"
    binary = True

    def evaluations(self, latents: int, categories: int) -> int:
        return 2

    def _many_categories(self) -> str:
        return "DisArmTree serves any number"

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        p, q = bernoulli.probabilities(logits)
        b, _ = bernoulli.antithetic(p, q)
        loss = evaluate(f, bernoulli.one_hot(b).to(logits.dtype))
        difference = (loss[0] - loss[1]).detach().unsqueeze(-1)
        estimate = bernoulli.to_logits(difference * (b[0] - b[1]) * torch.maximum(p, q) / 2)
        return loss.mean(dim=0), estimate.to(logits.dtype)
