"""VarGrad: A Low-Variance Gradient Estimator for Variational Inference.

Richter, Boustati, Nuesken, Ruiz and Akyildiz, 2020, 2010.10436.

    z_1..z_S ~ pi, held fixed;   f = -log weight = log q(z) - log p(x, z)
    estimate = d/d theta of 1/2 Var_S[f + log q_theta(z) - log q(z)], the variance with S - 1 in the denominator
             = 1/(S - 1) sum_i (f_i - mean f)(z_i - pi)

theta is live in log q alone, whose derivative is z - pi. It is LeaveOneOut's estimate for the same draws, unbiased for
d E f = d KL(q || p).
"""

from functools import partial

import torch
from torch import Tensor

from ils_lightning.estimators.base import Loss, evaluate
from ils_lightning.estimators.categorical import draw, plain_call, softmax
from ils_lightning.estimators.several import Several


class VarGrad(Several):
    """Descends the log-variance loss, which vanishes when q is the posterior; f is minus the log-weight.

    The loss returned is the mean of f, the negative evidence bound on which f's parameters train; `diagnostics` reports
    the log-variance loss. Detach log q inside f: attached, it adds noise of mean zero. In the models here, whose KL
    terms are exact and outside of f, its steps are those of `LeaveOneOut` with as many draws.

    Args:
        samples: draws a row, S, at least 2.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> VarGrad(samples=4)(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
    """

    source = "Richter et al. 2020, 2010.10436"
    equation = r"""
        z_1, \dots, z_S &\sim \pi \text{ held fixed} \\
        f &= \log q(z) - \log p(x, z) \\
        \hat\nabla &= \frac{\partial}{\partial \theta} \, \tfrac{1}{2}
            \operatorname{Var}_S\left[f + \log q_\theta(z) - \log q(z)\right] \\
        &= \frac{1}{S - 1} \sum_i \left(f_i - \overline{f}\right) (z_i - \pi)
    """
    purpose = "to have a variance"
    log_variance: Tensor

    def __init__(self, samples: int = 4) -> None:
        super().__init__(samples)
        self.register_buffer("log_variance", torch.zeros(()), persistent=False)

    def diagnostics(self) -> dict[str, Tensor]:
        """Half the variance of the log-weights over a row's draws, averaged over the rows of the last step."""
        return {"log_variance": self.log_variance}

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = softmax(logits.detach())
        z = draw(pi, self.samples)
        score = z - pi
        loss = evaluate(f, z.to(logits.dtype))
        centred = (loss - loss.mean(dim=0)).detach()
        if self.training and plain_call():
            half_variance = centred.square().sum(dim=0) / (2 * (self.samples - 1))
            self.learn_later(logits, partial(self._report, half_variance))
        return loss.mean(dim=0), (centred[..., None, None] * score).sum(dim=0).div(self.samples - 1).to(logits.dtype)

    def _report(self, half_variance: Tensor, used: Tensor) -> None:
        """Keeps the mean over the rows used, if there are any."""
        mean = torch.where(used, half_variance, float("nan")).nanmean()
        self.log_variance = torch.where(torch.isnan(mean), self.log_variance.to(mean), mean)
