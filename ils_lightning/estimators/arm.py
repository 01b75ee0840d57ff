"""ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary Networks (Yin and Zhou, 2019, 1807.11143).

    u ~ Uniform(0, 1) per latent;   b = 1[u > sigmoid(-t)],   b' = 1[u < sigmoid(t)]
    estimate for t = (f(b) - f(b'))(u - 1/2)

Unbiased for any f. Both draws follow Bernoulli(sigmoid(t)); they are antithetic.
"""

from torch import Tensor

from ils_lightning.estimators.antithetic import Antithetic


class Arm(Antithetic):
    """Weighs the difference of two antithetic draws by the noise they share.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 3, 2, requires_grad=True)
        >>> Arm()(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
    """

    source = "Yin and Zhou 2019, 1807.11143"
    equation = r"""
        u &\sim \mathrm{Uniform}(0, 1) \\
        b &= \mathbf{1}[u > \sigma(-t)] \\
        b' &= \mathbf{1}[u < \sigma(t)] \\
        \hat\nabla_t &= \left(f(b) - f(b')\right) \left(u - \tfrac{1}{2}\right)
    """

    def _many_categories(self) -> str:
        return "Arsm serves any number"

    def weight(self, b: Tensor, u: Tensor, p: Tensor, q: Tensor) -> Tensor:
        return (u - 0.5) * (p * q > 0)  # without choice the mean is zero: drop the noise
