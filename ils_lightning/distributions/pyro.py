"""The distribution for Pyro's `sample` statements and plates; needs Pyro (`pip install pyro-ppl`)."""

from typing import Any, Self

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from ils_lightning import distributions

__all__ = ["OneHotCategorical"]


class OneHotCategorical(distributions.OneHotCategorical, TorchDistributionMixin):
    """`ils_lightning.distributions.OneHotCategorical` as Pyro wants it: reparametrised by an estimator.

    In a guide its draws carry the estimator's gradient to the ELBO (`pyro.infer.Trace_ELBO`), where Pyro's own class
    falls back on the score function. For that `log_prob` is differentiable in the draw, linear in it, which torch's is
    not: use this class in the model for the same variable too.

    Example:
        >>> import torch
        >>> OneHotCategorical(logits=torch.zeros(3), estimator="ReinMax")().sum()
        tensor(1.)
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        return super().expand(batch_shape, self._get_checked_instance(OneHotCategorical, _instance))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability `[*batch]` of draws `[*batch, categories]`, with a slope in them."""
        if self._validate_args:
            self._validate_sample(value)
        masked = self._theta == float("-inf")
        impossible = torch.where(value > 0, float("-inf"), 0.0)
        return torch.where(masked, impossible, value * self._theta.masked_fill(masked, 0)).sum(dim=-1)
