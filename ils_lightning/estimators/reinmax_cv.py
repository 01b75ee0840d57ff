"""ReinMax-CV (Wang and Bui, 2026, 2603.08257).

Paper: Beyond ReinMax: Low-Variance Gradient Estimators for Discrete Latent Variables.

    z ~ pi = softmax(theta);   theta_D = log((pi + z) / 2);   J(q) v = q (v - q.v)
    estimate = 2 J((pi + z) / 2) g - 1/2 J(pi) g + eta [GumbelRao(theta_D, tau | z) - STGumbel(theta_D, tau | z)] g

Both Gumbel terms are conditioned on the draw z, so the bracket has mean zero given z: the expectation is ReinMax's for
every eta and tau. As ReinMax is a function of z, the bracket is also uncorrelated with it: eta = 0 has the least
variance, and every other eta adds some. Kept for comparison; `ILSCV` has a control variate that varies with z.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option, Pullback, per_row
from ils_lightning.estimators.categorical import jacobian
from ils_lightning.estimators.gumbel_rao import check_resamples, rao


class ReinMaxCV(Pullback):
    """Adds a mean-zero difference of two Gumbel-Softmax gradients to ReinMax.

    Args:
        weight: eta of the difference, of any sign.
        resamples: R, conditional noise vectors a row in the first of the two.
        temperature: tau of both.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> loss = ReinMaxCV(resamples=10)(logits, lambda z: z[..., 0].sum(-1))
        >>> loss.sum().backward()
    """

    source = "Wang and Bui 2026, 2603.08257"
    exact_for = "quadratic"

    def __init__(self, weight: Option = 1.0, resamples: int = 100, temperature: Option = 1.0) -> None:
        super().__init__()
        self.option("weight", weight, minimum=float("-inf"))
        self.resamples = check_resamples(self, resamples)
        self.option("temperature", temperature)

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        midpoint = (pi + z) / 2
        theta_d, tau = torch.log(midpoint), per_row(self.temperature, logits)
        difference = rao(theta_d, z, g, tau, self.resamples) - rao(theta_d, z, g, tau, 1)
        return 2 * jacobian(midpoint, g) - jacobian(pi, g) / 2 + per_row(self.weight, logits) * difference
