"""ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary Networks (Yin and Zhou, 2019, 1807.11143).

    u ~ Uniform(0, 1) per latent;   b = 1[u > sigmoid(-t)],   b' = 1[u < sigmoid(t)]
    estimate for t = (f(b) - f(b'))(u - 1/2)

Unbiased for any f. Both draws follow Bernoulli(sigmoid(t)); they are antithetic.
"""

from torch import Tensor

from ils_lightning.estimators import bernoulli
from ils_lightning.estimators.base import Estimator, Loss, evaluate


class Arm(Estimator):
    """Weighs the difference of two antithetic draws by the noise they share.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 3, 2, requires_grad=True)
        >>> Arm()(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
    """

    source = "Yin and Zhou 2019, 1807.11143"
    cost = "2"
    unbiased = True
    exact_for = "all"
    binary = True

    def evaluations(self, latents: int, categories: int) -> int:
        return 2

    def _many_categories(self) -> str:
        return "Arsm serves any number"

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        p, q = bernoulli.probabilities(logits)
        b, u = bernoulli.antithetic(p, q)
        loss = evaluate(f, bernoulli.one_hot(b).to(logits.dtype))
        difference = (loss[0] - loss[1]).detach().unsqueeze(-1)
        gradient = difference * (u - 0.5) * (p * q > 0)  # without choice the mean is zero: drop the noise
        return loss.mean(dim=0), bernoulli.to_logits(gradient).to(logits.dtype)
