"""ReDGE-cov: ReDGE whose noise has the mean and the variances of the draw (Gourevitch et al., 2026, 2601.00781).

v = max(pi (1 - pi), .1);   x ~ N(pi, diag v) at the last step
x0(x, t) = softmax(theta + (alpha_t x - alpha_t sigma_t pi - alpha_t^2 / 2) / (v sigma_t^2)),   else as `redge`
"""

from collections.abc import Callable

from torch import Tensor

from ils_lightning.estimators.categorical import gaussian, softmax
from ils_lightning.estimators.redge import Redge

_LEAST = 0.1
"""Variances below this are raised to it, as released."""


class RedgeCov(Redge):
    """`Redge` from noise that is matched to the draw's mean and variances.

    Args:
        steps: n, at least 2.
        first_time: t_1, the noise that the last step takes away, in (0, 1).

    Example:
        >>> import torch
        >>> RedgeCov().sample(torch.zeros(2, 1, 3)).sum(-1)
        tensor([[1.],
                [1.]])
    """

    equation = r"""
        v &= \max(\pi (1 - \pi), 0.1) \\
        x &\sim \mathcal{N}(\pi, \operatorname{diag} v) \\
        x_0(x, t) &= \operatorname{softmax}\left(\theta
            + \frac{\alpha_t x - \alpha_t \sigma_t \pi - \alpha_t^2 / 2}{v \, \sigma_t^2}\right) \\
        x &\leftarrow \alpha_s x_0 + \sigma_s \, \frac{x - \alpha_t x_0}{\sigma_t},
            \text{ for } t \to s, \text{ until } s = 0 \\
        z &\sim x_0 \\
        \hat\nabla &= \left(\frac{\partial x_0}{\partial \theta}\right)^\top g
    """

    def _noise_and_denoiser(self, theta: Tensor) -> tuple[Tensor, Callable[[Tensor, Tensor, Tensor], Tensor]]:
        pi = softmax(theta)
        variance = (pi * (1 - pi)).clamp(min=_LEAST)

        def x0(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
            return softmax(theta + (alpha * x - alpha * sigma * pi - alpha**2 / 2) / (variance * sigma**2))

        return pi + variance.sqrt() * gaussian(theta), x0
