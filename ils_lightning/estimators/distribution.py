"""What draws of latents follow: the distribution that logits stand for, with its log-probabilities and divergences.

    Categorical:  p(z = k) = pi_k = softmax(logits)_k;   KL(q || p) = sum_k q_k (log q_k - log p_k),   0 log 0 = 0

Every set of category probabilities is a `Categorical` of its logarithms. All is of each latent by itself: latents are
independent given the logits. Where q_k is zero, by a mask of -inf or by underflow, neither value nor gradient of
`kl` and `entropy` knows of category k.
"""

from functools import cached_property
from typing import Any, Self

from torch import Generator, Tensor

from ils_lightning.estimators.categorical import draw, indices, log_prob, log_softmax, softmax, top


class Distribution:
    """A distribution of vectors z `[*batch, latents, categories]` of zeros and ones. Subclasses write what is below.

    Args:
        logits: `[*batch, latents, categories]`; -inf masks a category.

    Attributes:
        ones: how many ones a latent's z has.
    """

    ones: int = 1

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @property
    def pi(self) -> Tensor:
        """The probability that z has a one, E z, `[*batch, latents, categories]`, in float32 at least."""
        raise NotImplementedError(f"{type(self).__name__} must define pi")

    def log_prob(self, z: Tensor) -> Tensor:
        """Returns log p(z) `[*any, latents]` in nats, linear in z; z broadcasts with the logits."""
        raise NotImplementedError(f"{type(self).__name__} must define log_prob(z)")

    def draw(self, samples: int | None = None, generator: Generator | None = None) -> Tensor:
        """Draws z, `[*batch, latents, categories]` or `[samples, ...]`; no gradient passes."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(samples, generator)")

    def kl(self, p: Any) -> Tensor:
        """Returns KL(self || p) `[*batch, latents]` in nats; inf where p, of this class, masks what is drawn."""
        raise NotImplementedError(f"{type(self).__name__} must define kl(p)")

    def entropy(self) -> Tensor:
        """Returns the entropy `[*batch, latents]` in nats."""
        raise NotImplementedError(f"{type(self).__name__} must define entropy()")

    def alike(self, logits: Tensor) -> Self:
        """Returns the distribution over the same z that other logits stand for, a prior's for instance."""
        return type(self)(logits)

    def mode(self) -> Tensor:
        """Returns the most probable z."""
        return top(self.logits, self.ones)

    def codes(self, z: Tensor) -> Tensor:
        """Returns the categories of z as integers: `[*any, latents]`, or `[*any, latents, ones]` in rising order."""
        return indices(z, self.ones)


class Categorical(Distribution):
    """One category a latent, drawn from softmax(logits).

    Example:
        >>> import torch
        >>> q = Categorical(torch.tensor([[0.0, 0.0, float("-inf")]]))
        >>> q.kl(Categorical(torch.zeros(1, 3)))
        tensor([0.4055])
    """

    @cached_property
    def pi(self) -> Tensor:
        return softmax(self.logits)

    @cached_property
    def log_pi(self) -> Tensor:
        """Log-probabilities, -inf at masked categories."""
        return log_softmax(self.logits)

    def log_prob(self, z: Tensor) -> Tensor:
        return log_prob(self.logits, z)

    def draw(self, samples: int | None = None, generator: Generator | None = None) -> Tensor:
        return draw(self.pi, samples, generator)

    def kl(self, p: Any) -> Tensor:
        q = self.log_pi.exp()
        return (q * (self.log_pi - p.log_pi).masked_fill(q == 0, 0)).sum(dim=-1)

    def entropy(self) -> Tensor:
        q = self.log_pi.exp()
        return -(q * self.log_pi.masked_fill(q == 0, 0)).sum(dim=-1)
