"""Likelihoods of pixels given a decoder's output, summed over pixels, in nats."""

from ils_lightning.likelihoods.bernoulli import Bernoulli
from ils_lightning.likelihoods.discretized_logistic import DiscretizedLogistic
from ils_lightning.likelihoods.gaussian import Gaussian
from ils_lightning.likelihoods.likelihood import Likelihood

__all__ = ["Bernoulli", "DiscretizedLogistic", "Gaussian", "Likelihood"]
