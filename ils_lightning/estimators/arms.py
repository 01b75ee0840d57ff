"""ARMS: Antithetic-REINFORCE-Multi-Sample Gradient for Binary Variables (Dimitriev and Zhou, 2021, 2105.14141).

    E_1..E_S ~ Exp(1), D = E / sum E;   u_i = (1 - D_i)^(S-1), where p >= 1/2: 1 - u_i;   b_i = 1[u_i < p]
    estimate for t = p (1 - p) / (p - P11) 1/S sum_i (f_i - mean of the others)(b_i - p),   P11 = P(b_i = b_j = 1)

Unbiased for any f: leave-one-out REINFORCE on S mutually antithetic draws, corrected for their dependence (Dirichlet
copula). With m = min(p, 1 - p), p - P11 = m - max(2 m^(1/(S-1)) - 1, 0)^(S-1), so the factor is
(1 - m) / (1 - max(2 - m^(-1/(S-1)), 0)^(S-1)): written this way it has no 0/0 at p = 0 or 1.
"""

import torch
from torch import Tensor

from ils_lightning.estimators import bernoulli
from ils_lightning.estimators.base import Loss, evaluate
from ils_lightning.estimators.categorical import exponential
from ils_lightning.estimators.several import Several


class Arms(Several):
    """Draws mutually antithetic samples; the other draws of the same row are the baseline. Two samples are DisArm.

    Args:
        samples: draws a row, at least 2.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 3, 2, requires_grad=True)
        >>> Arms(samples=4)(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
    """

    source = "Dimitriev and Zhou 2021, 2105.14141"
    equation = r"""
        E_1, \dots, E_S &\sim \mathrm{Exp}(1) \\
        D &= E / \textstyle\sum_j E_j \\
        p &= \sigma(t) \\
        u_i &= (1 - D_i)^{S-1}, \text{ or 1 minus it where } p \ge 1/2 \\
        b_i &= \mathbf{1}[u_i < p] \\
        P_{11} &= P(b_i = b_j = 1) \\
        \hat\nabla_t &= \frac{p (1 - p)}{p - P_{11}} \, \frac{1}{S} \sum_i \left(f_i - \overline{f}_{-i}\right)
            (b_i - p)
    """
    purpose = "to be antithetic"
    binary = True

    def __init__(self, samples: int = 4) -> None:
        super().__init__(samples)

    def _many_categories(self) -> str:
        return "DisArmTree and LeaveOneOut serve any number"

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        p, q = bernoulli.probabilities(logits)
        b = self._draw(p, q)
        loss = evaluate(f, bernoulli.one_hot(b).to(logits.dtype))
        advantage = (loss - loss.mean(dim=0)).detach().unsqueeze(-1)
        gradient = self._factor(p, q) * (advantage * (b - p)).sum(dim=0) / (self.samples - 1)
        return loss.mean(dim=0), bernoulli.to_logits(gradient).to(logits.dtype)

    def _draw(self, p: Tensor, q: Tensor) -> Tensor:
        """Draws b `[samples, *batch, latents]`, each Bernoulli(p), negatively dependent over samples."""
        noise = exponential(p.double().expand(self.samples, *p.shape))
        u = (1 - noise / noise.sum(dim=0)) ** (self.samples - 1)
        u = u.clamp(2.0**-53, 1 - 2.0**-53)  # inside (0, 1) p = 0 and p = 1 leave no choice
        return torch.where(p < q, u < p, u > q).to(p.dtype)

    def _factor(self, p: Tensor, q: Tensor) -> Tensor:
        """The factor p (1 - p) / (p - P11) `[*batch, latents]`."""
        power = self.samples - 1
        shared = (2 - torch.minimum(p, q) ** (-1 / power)).clamp(min=0) ** power
        return torch.maximum(p, q) / (1 - shared)
