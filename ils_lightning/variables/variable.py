"""The base of variables with finitely many values: a layer from a distribution's parameter to categorical logits.

    theta -> logits_k = log P(x = v_k; theta) + constant;   x = sum_k v_k z_k for one-hot z ~ softmax(logits)

The intermediate loss needs nothing new: KL(pi_D || pi) is that of the categorical, and its derivative reaches theta by
the chain rule, d KL / d theta = sum_k (pi - pi_D)_k d logits_k / d theta. For logits linear in theta, as those of a
natural exponential family, that is a difference of means: E_pi v - E_pi_D v.
"""

from torch import Tensor, nn

from ils_lightning.estimators import Estimator, Loss
from ils_lightning.variables.law import Law


class Variable(Law, nn.Module):
    """A distribution over the values v_0 < v_1 < ... with one parameter for each latent; any estimator works on it."""

    _abstract = True

    support: Tensor
    """The values `[categories]`."""

    def logits(self, theta: Tensor) -> Tensor:
        """Categorical logits `[*batch, latents, categories]` of the parameter `[*batch, latents]`."""
        raise NotImplementedError(f"{type(self).__name__} must define logits(theta)")

    def nodes(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.logits(theta).softmax(dim=-1).movedim(-1, 0)
        return self.support.to(theta).reshape(-1, *[1] * theta.dim()).expand_as(weights), weights

    def values(self, z: Tensor) -> Tensor:
        """Values `[..., latents]` of draws z `[..., latents, categories]`; linear in relaxed draws."""
        return z @ self.support.to(z)

    def forward(self, estimator: Estimator, theta: Tensor, f: Loss) -> Tensor:
        """Returns the loss `[*batch]`, whose backward delivers the estimate of d E f(x) / d theta to the parameter.

        Args:
            estimator: any estimator for categorical variables (one for 2 categories needs 2 values).
            theta: the parameter `[*batch, latents]`.
            f: a loss of values, x `[samples, *batch, latents]` to `[samples, *batch]`.
        """
        return estimator(self.logits(theta), lambda z: f(self.values(z)))
