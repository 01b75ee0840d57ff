"""Double Control Variates for Gradient Estimation in Discrete Latent Variable Models (Titsias, Shi, 2022, 2111.05300).

    b_1..b_S ~ Bernoulli(p), f_k = f(b_k), G_k = df/db at b_k, gl_k = mean of the other G_j
    F_k = f_k + a sum_latents gl_k (b_k - p)
    estimate for t = 1/S sum_k (F_k - mean of the other F_j)(b_k - p) - a mean_k(G_k) p (1 - p)

Unbiased for any a. At a = 0 it is leave-one-out REINFORCE; at a = -1 it is exact for f linear in b, without variance.
"""

import torch
from torch import Tensor, nn

from ils_lightning.estimators import bernoulli
from ils_lightning.estimators.base import Loss
from ils_lightning.estimators.compiling import ASKS_DERIVATIVES
from ils_lightning.estimators.several import Several


class DoubleControlVariate(Several):
    """Leave-one-out REINFORCE with a linear control variate from the other draws' gradients.

    Its coefficient a is a parameter: it learns by the gradient of |estimate|^2, at the rate of the model's optimiser
    (1e-3 in the paper).

    Args:
        samples: draws a row, at least 2.
        coefficient: a at the start.

    Example:
        >>> import torch
        >>> estimator = DoubleControlVariate(samples=2)
        >>> logits = torch.zeros(4, 3, 2, requires_grad=True)
        >>> estimator(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
        >>> estimator.a.grad is not None
        True
    """

    source = "Titsias and Shi 2022, 2111.05300"
    equation = r"""
        b_1, \dots, b_S &\sim \mathrm{Bernoulli}(p) \\
        f_k &= f(b_k) \\
        G_k &= \nabla f(b_k) \\
        F_k &= f_k + a \sum_{\text{latents}} \overline{G}_{-k} \, (b_k - p) \\
        \hat\nabla_t &= \frac{1}{S} \sum_k \left(F_k - \overline{F}_{-k}\right) (b_k - p) - a \, \overline{G} \, p
            (1 - p)
    """
    needs_gradient = True
    uncompiled = ASKS_DERIVATIVES
    binary = True

    def __init__(self, samples: int = 2, coefficient: float = 0.0) -> None:
        super().__init__(samples)
        self.a = nn.Parameter(torch.tensor(float(coefficient)))

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        p, q = bernoulli.probabilities(logits)
        b = bernoulli.draw(p, q, self.samples)
        loss, slope = bernoulli.loss_and_slope(type(self).__name__, f, bernoulli.one_hot(b).to(logits.dtype))
        finite, f_b, slope = bernoulli.of_finite_rows(loss, slope.to(p.dtype))
        control = (bernoulli.leave_one_out_mean(slope) * (b - p)).sum(dim=-1)
        with torch.enable_grad():
            a = self.a.to(p.dtype)
            F = f_b + a * control
            advantage = (F - bernoulli.leave_one_out_mean(F)).unsqueeze(-1)
            gradient = (advantage * (b - p)).mean(dim=0) - a * slope.mean(dim=0) * p * q
            gradient = torch.where(finite.unsqueeze(-1), gradient, float("nan"))
        return loss.mean(dim=0), bernoulli.to_logits(gradient).to(logits.dtype)
