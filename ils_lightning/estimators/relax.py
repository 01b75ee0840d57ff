"""Backpropagation through the Void: RELAX (Grathwohl, Choi, Wu, Roeder and Duvenaud, 2018, 1711.00123).

    zr = theta + Gumbel,   z = one-hot argmax zr,   zt ~ (theta + Gumbel given that its argmax is z's), of zr's value
    c(y) = critic(y), optionally + f(softmax(y / tau))
    estimate = [f(z) - c(zt)] (z - pi) + d c(zr)/d theta - d c(zt)/d theta

Unbiased for any critic and tau, which learn by the gradient of |estimate|^2. The critic alone asks nothing of f but its
values: f may be a black box, and is called once a draw.
"""

import torch
from torch import Tensor, nn

from ils_lightning.estimators.base import Estimator, Loss, Option, evaluate
from ils_lightning.estimators.loss import slopes
from ils_lightning.estimators.perceptron import Perceptron, features
from ils_lightning.estimators.relaxation import controlled, of_rows, relax


class Relax(Estimator):
    """REINFORCE with a learnt critic of the perturbed logits as control variate; each layer needs its own instance.

    Args:
        critic: maps `[..., latents * categories]`, the perturbed logits less their logsumexp, to `[...]`, twice
            differentiably; None makes a `Perceptron()`, which starts at zero.
        relaxed_loss: adds f(softmax(. / tau)) to the critic, which starts as REBAR's c: f must then be differentiable.
            This is the published setting for variational autoencoders; the critic alone is that for black boxes.
        temperature: where tau of the relaxed loss starts; the parameter learnt is its logarithm.
        samples: draws a row.

    Example:
        >>> import torch
        >>> estimator = Relax()
        >>> estimator.build(latents=1, categories=3)
        >>> optimizer = torch.optim.Adam(estimator.parameters())
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> estimator(logits, lambda z: z[..., 0].sum(-1).detach()).mean().backward()
        >>> optimizer.step()
    """

    source = "Grathwohl et al. 2018, 1711.00123"
    equation = r"""
        z_r &= \theta + G \\
        z &= \text{one-hot } \argmax z_r \\
        z_t &\sim (\theta + G \mid \argmax = z) \\
        c(y) &= \text{critic}(y), \text{ optionally } + f(\operatorname{softmax}(y / \tau)) \\
        \hat\nabla &= \left[f(z) - c(z_t)\right] (z - \pi) + \frac{\partial c(z_r)}{\partial \theta} -
            \frac{\partial c(z_t)}{\partial \theta}
    """
    unbiased = True
    exact_for = "all"
    cost = "S"

    def __init__(
        self,
        critic: nn.Module | None = None,
        relaxed_loss: bool = False,
        temperature: Option = 0.5,
        samples: int = 1,
    ) -> None:
        super().__init__()
        self.samples = self.whole("samples", samples, 1)
        self.critic = Perceptron() if critic is None else critic
        self.relaxed_loss = self.needs_gradient = relaxed_loss
        self.cost, self.calls = ("2 * S", 2) if relaxed_loss else ("S", 1)
        tau = self.option_values("temperature", temperature, minimum=0, strict=True)
        if relaxed_loss:
            self.log_temperature = nn.Parameter(self.as_made_here(tau.log()))

    def build(self, latents: int, categories: int) -> None:
        if isinstance(self.critic, Perceptron):
            self.critic.build(latents * categories)

    def evaluations(self, latents: int, categories: int) -> int:
        return 2 * self.samples if self.relaxed_loss else self.samples

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        def control(perturbed: Tensor) -> Tensor:
            c = self.critic(features(perturbed))
            if not self.relaxed_loss:
                return c
            y = relax(perturbed, of_rows(self.log_temperature.exp(), logits)).to(logits.dtype)
            loss = evaluate(f, y)
            slopes(type(self).__name__, loss, y)  # a flat f would pass unseen beside the critic, and leave a bias
            return c + loss

        live = torch.is_grad_enabled()
        return controlled(type(self).__name__, logits, f, control, 1.0, self.samples, live)
