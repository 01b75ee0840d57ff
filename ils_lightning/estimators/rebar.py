"""REBAR: Low-variance, unbiased gradient estimates for discrete latent variable models.

Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein, 2017, 1703.07370.

    zr = theta + Gumbel,   z = one-hot argmax zr,   zt ~ (theta + Gumbel given that its argmax is z's)
    c(y) = f(softmax(y / tau))
    estimate = [f(z) - eta c(zt)] (z - pi) + eta d c(zr)/d theta - eta d c(zt)/d theta

The derivative of c(zt) runs through theta inside the conditional Gumbel; dropping it leaves a bias. The noises of zr
and zt are tied as published, so that both have one value and c is evaluated once. Unbiased for any tau and eta, which
therefore learn by the gradient of |estimate|^2. f is seen at relaxed points without training there.
"""

import torch
from torch import Tensor, nn

from ils_lightning.estimators.base import Estimator, Loss, Option, evaluate
from ils_lightning.estimators.compiling import ASKS_DERIVATIVES
from ils_lightning.estimators.relaxation import controlled, of_rows, relax


class Rebar(Estimator):
    """REINFORCE with the Gumbel-softmax relaxation of f as control variate.

    Args:
        temperature: where the relaxation's tau starts; the parameter learnt is its logarithm.
        eta: where the weight of the control variate starts.
        samples: draws a row.
        learnt: tau and eta are parameters trained to lower the estimate's variance; otherwise they stay put.

    Example:
        >>> import torch
        >>> estimator = Rebar(temperature=0.5)
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> estimator(logits, lambda z: z[..., 0].sum(-1).square()).mean().backward()
        >>> estimator.eta.grad is not None
        True
    """

    source = "Tucker et al. 2017, 1703.07370"
    equation = r"""
        z_r &= \theta + G \\
        z &= \text{one-hot } \argmax z_r \\
        z_t &\sim (\theta + G \mid \argmax = z) \\
        c(y) &= f(\operatorname{softmax}(y / \tau)) \\
        \hat\nabla &= \left[f(z) - \eta \, c(z_t)\right] (z - \pi) + \eta \, \frac{\partial c(z_r)}{\partial \theta}
            - \eta \, \frac{\partial c(z_t)}{\partial \theta}
    """
    cost = "2 * S"
    calls = 2
    unbiased = True
    exact_for = "all"
    needs_gradient = True
    uncompiled = ASKS_DERIVATIVES

    def __init__(self, temperature: Option = 0.5, eta: Option = 1.0, samples: int = 1, learnt: bool = True) -> None:
        super().__init__()
        self.samples = self.whole("samples", samples, 1)
        tau = self.option_values("temperature", temperature, minimum=0, strict=True)
        weight = self.option_values("eta", eta, minimum=0, strict=False)
        self.log_temperature = nn.Parameter(self.as_made_here(tau.log()), requires_grad=learnt)
        self.eta = nn.Parameter(self.as_made_here(weight), requires_grad=learnt)

    @property
    def temperature(self) -> Tensor:
        """The relaxation's present temperature."""
        return self.log_temperature.exp()

    def diagnostics(self) -> dict[str, Tensor]:
        """Temperature and weight of the control variate, averaged over rows if they hold one value a row."""
        return {"temperature": self.temperature.detach().mean(), "eta": self.eta.detach().mean()}

    def evaluations(self, latents: int, categories: int) -> int:
        return 2 * self.samples

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        tau = of_rows(self.temperature, logits)

        def control(perturbed: Tensor) -> Tensor:
            return evaluate(f, relax(perturbed, tau).to(logits.dtype))

        live = torch.is_grad_enabled() and (self.log_temperature.requires_grad or self.eta.requires_grad)
        eta = of_rows(self.eta, logits)
        return controlled(type(self).__name__, logits, f, control, eta, self.samples, live)
