"""One-hot categorical variables with a choice of the gradient that passes through a draw."""

from typing import Any, Self

import torch
from torch import Size, Tensor, distributions
from torch.distributions import constraints
from torch.distributions.kl import register_kl

from ils_lightning.describe import in_words
from ils_lightning.estimators import Sampler
from ils_lightning.estimators.categorical import draw
from ils_lightning.estimators.replacing import drawn
from ils_lightning.functional import category_drawer
from ils_lightning.functional import unimix as mix


class _Simplex(constraints.Constraint):
    """Probabilities that add up to one, as closely as their type can say; torch asks for 1e-6 of any type."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        away = (value.sum(dim=-1, dtype=torch.float64) - 1).abs()
        return (value >= 0).all(dim=-1) & (away <= max(1e-6, torch.finfo(value.dtype).eps))


class _Categorical(distributions.Categorical):
    """What torch's class is made of, which would hold probabilities of any type to 1e-6."""

    arg_constraints = {"probs": _Simplex(), "logits": constraints.real_vector}  # noqa: RUF012 (torch's)


class OneHotCategorical(distributions.OneHotCategorical):
    """`torch.distributions.OneHotCategorical` with `rsample`: an exact draw, differentiated by an estimator.

    With the default estimator it is torch's `OneHotCategoricalStraightThrough`, whose gradients it has. Where the
    estimator pools over rows, the last batch axis is the latents if there are two batch axes or more, as in
    `[batch, latents, categories]`; one batch axis is rows.

    Categories of probability zero, or of logits -inf, are never drawn, get no gradient, and give none to KL
    divergences and entropies.

    Args:
        probs: probabilities `[*batch, categories]`, or weights in proportion; these or `logits`.
        logits: log-probabilities up to a constant `[*batch, categories]`.
        estimator: of the gradient through `rsample`: the name of a class, or an instance where it has options or
            learns (the model must hold it then).
        unimix: share of the even distribution that is mixed in (`functional.unimix`): draws, divergences and gradients
            are those of the mixture.
        validate_args: as in torch.

    Raises:
        ValueError: when both or none of `probs` and `logits` are given, they are out of range, or the estimator cannot
            draw.

    Example:
        >>> import torch
        >>> from torch.distributions import Independent
        >>> logits = torch.zeros(16, 32, 8, requires_grad=True)
        >>> posterior = Independent(OneHotCategorical(logits=logits, estimator="ReinMax", unimix=0.01), 1)
        >>> posterior.rsample().shape
        torch.Size([16, 32, 8])
    """

    has_rsample = True
    arg_constraints = {"probs": _Simplex(), "logits": constraints.real_vector}  # noqa: RUF012 (torch's)
    estimator: Sampler
    _theta: Tensor

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        estimator: Sampler | str = "StraightThrough",
        unimix: float = 0.0,
        validate_args: bool | None = None,
    ) -> None:
        self.estimator = category_drawer(estimator, "OneHotCategorical")
        inner = _Categorical(probs, logits, validate_args)
        if unimix:
            inner = _Categorical(logits=mix(log_probs(inner), unimix), validate_args=validate_args)
        self._categorical, self._theta = inner, log_probs(inner)
        # torch's own __init__ would make a categorical of its own
        super(distributions.OneHotCategorical, self).__init__(
            inner.batch_shape, inner.param_shape[-1:], validate_args=validate_args
        )

    def __repr__(self) -> str:
        shape = [*self.batch_shape, *self.event_shape]
        return f"{type(self).__name__}(logits: {shape}, estimator={in_words(self.estimator)})"

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        new: Any = self._get_checked_instance(OneHotCategorical, _instance)
        new.estimator = self.estimator
        new._theta = self._theta.expand(Size(batch_shape) + self.event_shape)
        return super().expand(batch_shape, new)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """Draws `[*sample_shape, *batch, categories]`; backward is the estimator's."""
        theta = self._theta.expand(self._extended_shape(Size(sample_shape)))
        rows = theta.reshape(-1, 1, theta.shape[-1]) if len(self.batch_shape) < 2 else theta
        self.estimator.check(rows)
        return drawn(self.estimator, rows).reshape(theta.shape)

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """Draws `[*sample_shape, *batch, categories]` without a gradient."""
        with torch.no_grad():
            return draw(self.probs.expand(self._extended_shape(Size(sample_shape))))

    def entropy(self) -> Tensor:
        """Entropy in nats `[*batch]`."""
        p, theta = self.probs, self._theta
        return -torch.where(p > 0, p * torch.where(p > 0, theta, 0), 0).sum(dim=-1)


def log_probs(categorical: distributions.Categorical | distributions.OneHotCategorical) -> Tensor:
    """Log-probabilities `[*batch, categories]`, -inf where the probability is 0; torch has a floor there."""
    if isinstance(categorical, OneHotCategorical):
        return categorical._theta
    inner = getattr(categorical, "_categorical", categorical)
    if "logits" in vars(inner):
        return inner.logits
    probs = inner.probs
    return torch.where(probs > 0, probs.clamp(min=torch.finfo(probs.dtype).tiny).log(), float("-inf"))


@register_kl(OneHotCategorical, OneHotCategorical)
@register_kl(OneHotCategorical, distributions.OneHotCategorical)
@register_kl(distributions.OneHotCategorical, OneHotCategorical)
def _kl(p: distributions.OneHotCategorical, q: distributions.OneHotCategorical) -> Tensor:
    """KL(p || q) in nats `[*batch]`, whose gradient is finite where both mask a category; inf where q alone does."""
    theta, eta = log_probs(p), log_probs(q)
    there = p.probs > 0
    return (torch.where(there, p.probs, 0) * (torch.where(there, theta, 0) - torch.where(there, eta, 0))).sum(dim=-1)
