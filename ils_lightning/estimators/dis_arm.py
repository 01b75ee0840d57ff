"""DisARM: An Antithetic Gradient Estimator for Binary Latent Variables (Dong, Mnih and Tucker, 2020, 2006.10680).

    u ~ Uniform(0, 1) per latent;   b = 1[u > sigmoid(-t)],   b' = 1[u < sigmoid(t)]
    estimate for t = 1/2 (f(b) - f(b'))(b - b') sigmoid(|t|)

ARM with u integrated out given (b, b'): unbiased for any f, its variance never above ARM's. Found at the same time as
U2G by Yin, Ho, Yan, Qian and Zhou (2020, "Probabilistic Best Subset Selection via Gradient-Based Optimization").
"""

import torch
from torch import Tensor

from ils_lightning.estimators.antithetic import Antithetic


class DisArm(Antithetic):
    """Weighs the difference of two antithetic draws by where they differ.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 3, 2, requires_grad=True)
        >>> DisArm()(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
    """

    source = "Dong, Mnih and Tucker 2020, 2006.10680"
    equation = r"""
        u &\sim \mathrm{Uniform}(0, 1) \\
        b &= \mathbf{1}[u > \sigma(-t)] \\
        b' &= \mathbf{1}[u < \sigma(t)] \\
        \hat\nabla_t &= \tfrac{1}{2} \left(f(b) - f(b')\right) (b - b') \, \sigma(\lvert t\rvert)
    """

    def _many_categories(self) -> str:
        return "DisArmTree serves any number"

    def weight(self, b: Tensor, u: Tensor, p: Tensor, q: Tensor) -> Tensor:
        return (b[0] - b[1]) * torch.maximum(p, q) / 2
