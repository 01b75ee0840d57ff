"""ReinMax-CV (Wang and Bui, 2026, 2603.08257).

Paper: Beyond ReinMax: Low-Variance Gradient Estimators for Discrete Latent Variables.

    z ~ pi = softmax(theta);   theta_D = log((pi + z) / 2);   J(q) v = q (v - q.v)
    estimate = 2 J((pi + z) / 2) g - 1/2 J(pi) g + eta [GumbelRao(theta_D, tau | z) - STGumbel(theta_D, tau | z)] g

Both Gumbel terms are those of theta_D + G given that its argmax is the draw z, each with noise G of its own: R vectors
in the first, one in the second. So they have one mean given z, and the bracket has mean zero: the expectation is
ReinMax's for every eta and tau. As ReinMax is a function of z, the bracket is also uncorrelated with it: eta = 0 has
the least variance, and every other eta adds some. Kept for comparison; `ILSCV` has a control variate that varies with
z.

The released program (github.com/danielwang0452/DiscreteNumericalMethodsASC, January 2026) is another estimator. Its eta
is .7, and its second term is (1/tau) J(softmax(theta_D + y)) g with y = softmax((theta + G) / tau), the forward's
relaxed draw, where the Gumbel noise should be, and not divided by tau. That term's mean is not the first one's: on the
contract's losses, at tau .5 and 1, its expectation is 10 to 29 per cent off ReinMax's, at .5 to .9 of ReinMax's
variance, where the form here has 1.1 to 1.6 and no bias of its own. Nor would the forward's own noise serve: theta + G
given z does not have the law of theta_D + G given z, and leaves a bias of 17 to 34 per cent.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option, per_row
from ils_lightning.estimators.categorical import jacobian
from ils_lightning.estimators.gumbel_rao import rao
from ils_lightning.estimators.sampler import Pullback


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
    equation = r"""
        z &\sim \pi \\
        q &= \tfrac{1}{2} (\pi + z) \\
        \theta_D &= \log q \\
        \hat\nabla &= 2 J_q \, g - \tfrac{1}{2} J_\pi \, g + \eta
            \left[\mathrm{GR}(\theta_D, \tau \mid z) - \mathrm{STGS}(\theta_D, \tau \mid z)\right] g \\
        & \mathrm{GR}: \text{Gumbel-Rao}, \quad \mathrm{STGS}: \text{ST-Gumbel-Softmax, given } z
    """
    exact_for = "quadratic"

    def __init__(self, weight: Option = 1.0, resamples: int = 100, temperature: Option = 1.0) -> None:
        super().__init__()
        self.option("weight", weight, minimum=float("-inf"))
        self.resamples = self.whole("resamples", resamples, 1)
        self.option("temperature", temperature)

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        midpoint = (pi + z) / 2
        theta_d, tau = torch.log(midpoint), per_row(self.temperature, logits)
        difference = rao(theta_d, z, g, tau, self.resamples) - rao(theta_d, z, g, tau, 1)
        return 2 * jacobian(midpoint, g) - jacobian(pi, g) / 2 + per_row(self.weight, logits) * difference
