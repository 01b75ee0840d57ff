"""Bounds on the log-likelihood of latent-variable models, averaged over all examples seen (and over ranks), in nats."""

import math

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.metrics.mean_over_rows import MeanOverRows


class NegativeELBO(MeanOverRows):
    """-ELBO = E[-log p(x | z)] + KL(q(z | x) || p(z)) in nats per example; update(reconstruction, kl), both `[batch]`.

    Example:
        >>> metric = NegativeELBO()
        >>> metric.update(torch.tensor([20.0, 22.0]), torch.tensor([3.0, 5.0]))
        >>> metric.compute()
        tensor(25.)
    """

    def measure(self, reconstruction: Tensor, kl: Tensor) -> Tensor:
        if reconstruction.dim() != 1 or reconstruction.shape != kl.shape:
            raise Refusal(
                f"NegativeELBO needs reconstruction and kl, both [batch]; given {list(reconstruction.shape)} and "
                f"{list(kl.shape)}"
            )
        return reconstruction.double() + kl.double()


class ImportanceWeightedBound(MeanOverRows):
    """-log (1/S sum_s w_s) in nats per example; update(log_weights `[samples, batch]`).

    With w_s = p(x, z_s) / q(z_s | x) it lies between the negative log-likelihood and -ELBO, which it is at one sample.

    Source: "Importance Weighted Autoencoders", Burda, Grosse, Salakhutdinov, 2016, arXiv:1509.00519.

    Example:
        >>> metric = ImportanceWeightedBound()
        >>> metric.update(torch.tensor([[-25.0], [-27.0]]))
        >>> metric.compute()
        tensor(25.5662)
    """

    def measure(self, log_weights: Tensor) -> Tensor:
        if log_weights.dim() != 2 or len(log_weights) == 0:
            raise Refusal(
                "ImportanceWeightedBound needs log_weights [samples, batch] with at least 1 sample; "
                f"given {list(log_weights.shape)}"
            )
        return math.log(len(log_weights)) - torch.logsumexp(log_weights.double(), dim=0)
