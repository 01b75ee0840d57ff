"""ReinMax-Rao (Wang and Bui, 2026, 2603.08257).

Paper: Beyond ReinMax: Low-Variance Gradient Estimators for Discrete Latent Variables.

    z ~ pi = softmax(theta);   theta_D = log((pi + z) / 2);
    estimate = 2 GumbelRao(theta_D, tau | z) g - 1/2 J(pi) g,   J(q) v = q (v - q.v)

The perturbed logits are those of theta_D given that their argmax is the SAME draw z, as in the released program. Then
2 GumbelRao(theta_D, tau | z) alone becomes ReinMax as tau -> 0, and the estimate becomes ReinMax - ST / 2: half of the
gradient of a linear f. It is shipped as published, exact for no class of f.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option, per_row
from ils_lightning.estimators.categorical import jacobian
from ils_lightning.estimators.gumbel_rao import rao
from ils_lightning.estimators.sampler import Pullback


class ReinMaxRao(Pullback):
    """Replaces the Jacobian at ReinMax's midpoint by its average over conditional Gumbel noise.

    Args:
        resamples: R, conditional noise vectors a row.
        temperature: tau of these vectors' softmax.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> loss = ReinMaxRao(resamples=10)(logits, lambda z: z[..., 0].sum(-1))
        >>> loss.sum().backward()
    """

    source = "Wang and Bui 2026, 2603.08257"
    equation = r"""
        z &\sim \pi \\
        \theta_D &= \log \tfrac{1}{2} (\pi + z) \\
        \hat\nabla &= 2 \, \mathrm{GR}(\theta_D, \tau \mid z) \, g - \tfrac{1}{2} J_\pi \, g \\
        & \mathrm{GR}: \text{Gumbel-Rao, given the draw } z
    """

    def __init__(self, resamples: int = 100, temperature: Option = 1.0) -> None:
        super().__init__()
        self.resamples = self.whole("resamples", resamples, 1)
        self.option("temperature", temperature)

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        theta_d = torch.log((pi + z) / 2)
        tau = per_row(self.temperature, logits)
        return 2 * rao(theta_d, z, g, tau, self.resamples) - jacobian(pi, g) / 2
