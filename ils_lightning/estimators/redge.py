"""ReDGE: categorical draws by a denoising diffusion (Gourevitch et al., 2026, 2601.00781).

    alpha = 1, then n - 1 steps from 1 - t_1 down to 1e-4;   sigma = 1 - alpha;   x ~ N(0, I) at the last step
    x0(x, t) = softmax(theta + alpha_t x / sigma_t^2), the posterior mean of z given alpha_t z + sigma_t N = x
    x <- alpha_s x0 + sigma_s (x - alpha_t x0) / sigma_t,  t -> s, until s = 0;   z ~ x0;   dz = dx0

The deterministic path from noise to the last x0 is differentiated, the draw from x0 is straight-through. The law of z
is softmax(theta) only in the limit of many steps.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Option, per_row
from ils_lightning.estimators.categorical import draw, gaussian, softmax
from ils_lightning.estimators.sampler import Sampler

_LAST = 1e-4
"""alpha at the noisiest step, as released."""


class Redge(Sampler):
    """Differentiates through a few deterministic denoising steps from Gaussian noise to a draw.

    Args:
        steps: n, at least 2; more follow softmax(logits) closer and cost as many softmaxes.
        first_time: t_1, the noise that the last step takes away, in (0, 1): small is close to a draw and noisy.

    Example:
        >>> import torch
        >>> Redge().sample(torch.zeros(2, 1, 3)).sum(-1)
        tensor([[1.],
                [1.]])
    """

    source = "Gourevitch et al. 2026, 2601.00781"
    equation = r"""
        \alpha &= 1, \text{ then } n - 1 \text{ steps from } 1 - t_1 \text{ down to } 10^{-4} \\
        \sigma &= 1 - \alpha \\
        x &\sim \mathcal{N}(0, I) \\
        x_0(x, t) &= \operatorname{softmax}\left(\theta + \alpha_t x / \sigma_t^2\right) \\
        x &\leftarrow \alpha_s x_0 + \sigma_s \, \frac{x - \alpha_t x_0}{\sigma_t},
            \text{ for } t \to s, \text{ until } s = 0 \\
        z &\sim x_0 \\
        \hat\nabla &= \left(\frac{\partial x_0}{\partial \theta}\right)^\top g
    """
    hard = False

    def __init__(self, steps: int = 3, first_time: Option = 0.9) -> None:
        super().__init__()
        self.steps = self.whole("steps", steps, 2)
        self.option("first_time", first_time)
        if not (self.option_values("first_time", first_time, 0, True) < 1).all():
            raise Refusal(f"{type(self).__name__}: first_time must be in (0, 1); given {first_time}")

    def sample(self, logits: Tensor) -> Tensor:
        theta = logits.float() if logits.element_size() < 4 else logits
        soft = self._denoised(*self._noise_and_denoiser(theta), theta)
        z = draw(soft)
        return (z + (soft - soft.detach())).to(logits.dtype)

    def _noise_and_denoiser(self, theta: Tensor) -> tuple[Tensor, Callable[[Tensor, Tensor, Tensor], Tensor]]:
        """The initial noise, and x0 as a function of x, alpha and sigma."""
        return gaussian(theta), lambda x, alpha, sigma: softmax(theta + alpha * x / sigma**2)

    def _denoised(self, x: Tensor, x0: Callable[[Tensor, Tensor, Tensor], Tensor], theta: Tensor) -> Tensor:
        alphas = self._schedule(theta)
        for t in range(self.steps - 1, 0, -1):
            alpha, sigma = alphas[t], 1 - alphas[t]
            guess = x0(x, alpha, sigma)
            if t == 1:
                return guess
            x = alphas[t - 1] * guess + (1 - alphas[t - 1]) * (x - alpha * guess) / sigma
        raise AssertionError("a schedule has at least one step")

    def _schedule(self, theta: Tensor) -> list[Tensor]:
        first = torch.as_tensor(1 - per_row(self.first_time, theta), dtype=theta.dtype, device=theta.device)
        share = torch.linspace(0, 1, self.steps - 1, dtype=theta.dtype, device=theta.device)
        return [torch.ones_like(first), *((1 - s) * first + s * _LAST for s in share)]
