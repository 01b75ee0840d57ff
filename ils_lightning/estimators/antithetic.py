"""What estimators of two antithetic draws of Bernoulli latents have in common.

    u ~ Uniform(0, 1) per latent;   b = 1[u > sigmoid(-t)],   b' = 1[u < sigmoid(t)]
    estimate for t = (f(b) - f(b')) w,   w a function of the noise alone

Both draws follow Bernoulli(sigmoid(t)).
"""

from torch import Tensor

from ils_lightning.estimators import bernoulli
from ils_lightning.estimators.base import Estimator, Loss, evaluate


class Antithetic(Estimator):
    """Weighs the difference of the losses of two antithetic draws; subclasses write `weight`."""

    _abstract = True

    cost = "2"
    unbiased = True
    exact_for = "all"
    binary = True

    def evaluations(self, latents: int, categories: int) -> int:
        return 2

    def weight(self, b: Tensor, u: Tensor, p: Tensor, q: Tensor) -> Tensor:
        """Returns w `[*batch, latents]`, of draws b `[2, *batch, latents]`, noise u, p = sigmoid(t) and q = 1 - p."""
        raise NotImplementedError(f"{type(self).__name__} must define weight(b, u, p, q)")

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        p, q = bernoulli.probabilities(logits)
        b, u = bernoulli.antithetic(p, q)
        loss = evaluate(f, bernoulli.one_hot(b).to(logits.dtype))
        difference = (loss[0] - loss[1]).detach().unsqueeze(-1)
        return loss.mean(dim=0), bernoulli.to_logits(difference * self.weight(b, u, p, q)).to(logits.dtype)
