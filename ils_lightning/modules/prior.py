"""Priors of discrete codes: independent categorical variables, uniform or learnt.

KL(q || p) = sum_k q_k (log q_k - log p_k),   of each latent, exact
"""

import torch
from torch import Tensor, nn

from ils_lightning.describe import Described
from ils_lightning.errors import Refusal
from ils_lightning.estimators.categorical import readable
from ils_lightning.estimators.distribution import Categorical, Distribution


class Prior(Described, nn.Module):
    """A distribution of codes whose latents are independent: subclasses make `logits` `[latents, categories]`.

    Attributes:
        lr: learning rate of the prior's own parameters; None for the model's.
    """

    _abstract = True

    logits: Tensor
    lr: float | None = None

    def build(self, latents: int, categories: int) -> None:
        """Makes `logits`."""
        raise NotImplementedError(f"{type(self).__name__} must define build(latents, categories)")

    def distribution(self, q: Distribution | None = None) -> Distribution:
        """Returns the prior over the codes that `q` is a distribution of: one category a latent unless given."""
        return Categorical(self.logits) if q is None else q.alike(self.logits)

    def kl(self, q: Distribution | Tensor) -> Tensor:
        """Returns KL(q || prior) `[*batch, latents]` in nats; logits `[*batch, latents, categories]` mean softmax.

        It is inf where the prior has masked a category that q draws.
        """
        q = Categorical(q) if isinstance(q, Tensor) else q
        return q.kl(self.distribution(q))

    def check(self, q: Distribution) -> None:
        """Raises a ValueError that names a category which q draws and the prior has masked; looks on CPUs only."""
        masked = self.logits.detach() == float("-inf")
        if readable(masked) and masked.any() and (lost := masked & (q.pi.detach() > 0)).any():
            *_, latent, category = lost.nonzero()[0].tolist()
            raise Refusal(
                f"{type(self).__name__} gives probability 0 to category {category} of latent {latent}, which the "
                "posterior draws: KL(posterior || prior) is infinite. Mask it in the encoder too, or not in the prior"
            )

    def log_prob(self, z: Tensor) -> Tensor:
        """Returns log p(z) `[*any]` in nats of codes `[*any, latents, categories]`."""
        return self.distribution().log_prob(z).sum(dim=-1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws one-hot codes `[count, latents, categories]`."""
        return self.distribution().draw(count, generator)


class UniformPrior(Prior):
    """All codes are equally probable.

    Example:
        >>> prior = UniformPrior()
        >>> prior.build(latents=2, categories=4)
        >>> prior.kl(torch.zeros(1, 2, 4))
        tensor([[0., 0.]])
    """

    def build(self, latents: int, categories: int) -> None:
        self.register_buffer("logits", torch.zeros(latents, categories), persistent=False)


class LearntPrior(Prior):
    """A logit vector for each latent, learnt with the model; uniform at the start.

    Args:
        lr: learning rate of the logits; the model's unless given.

    Example:
        >>> prior = LearntPrior(lr=0.01)
        >>> prior.build(latents=2, categories=4)
        >>> prior.sample(3).shape
        torch.Size([3, 2, 4])
    """

    def __init__(self, lr: float | None = None) -> None:
        super().__init__()
        if lr is not None and not lr > 0:
            raise Refusal(f"LearntPrior: lr must be greater than 0, or null for the model's own; given {lr}")
        self.lr = lr

    def build(self, latents: int, categories: int) -> None:
        self.logits = nn.Parameter(torch.zeros(latents, categories))
