"""Pixels that are on or off; for grey levels its log-probability is the (negative) binary cross-entropy."""

from torch import Tensor
from torch.nn import functional

from ils_lightning.likelihoods.likelihood import Likelihood, inner, widened


class Bernoulli(Likelihood):
    """log p(x) = x o - log(1 + e^o), for the logit o of a pixel and x in [0, 1].

    A grey level x counts as x times an on and 1 - x times an off pixel, as the literature does on grey-level MNIST:
    then it is no probability of x, only a loss.

    Example:
        >>> import torch
        >>> logits, x = torch.zeros(3, 100, 1, 8, 8), torch.ones(100, 1, 8, 8)
        >>> Bernoulli().log_prob(logits, x)[0, 0] / 64
        tensor(-0.6931)
    """

    def pixel_log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        return x * output - functional.softplus(output)

    def mean(self, output: Tensor) -> Tensor:
        return widened(output).sigmoid()

    def output_bias(self, pixel_mean: Tensor) -> Tensor:
        return inner(pixel_mean).logit()
