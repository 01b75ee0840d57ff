"""ReinMax at any temperature with a diagonal curvature: its expectation, less noise, linear cost (this project).

    estimate = R (g - h z) + E R h z,   R v = m (v - m.v / 2) - 1/2 J_p v,   m = softmax(theta / tau) + z

h is that of `ILSDiagonal`, E R of `tempered`. The expectation is ReinMax(tau)'s exactly, for every f and any h.
"""

from ils_lightning.estimators.base import Option
from ils_lightning.estimators.ils_diagonal import ILSDiagonal
from ils_lightning.estimators.tempered import Tempered


class ILSTemperedDiagonal(Tempered, ILSDiagonal):
    """`ReinMax` at a temperature, without the noise that a pooled diagonal curvature explains.

    For more categories or latents than `ILSTempered` can afford. Like `ILSDiagonal` it wants about as many rows a step
    as there are categories, and each layer needs its own instance.

    Args:
        decay: weight of the past in the moving sums, in [0, 1).
        temperature: tau of ReinMax's backward pass; draws always follow softmax(logits).

    Example:
        >>> import torch
        >>> logits = torch.zeros(64, 1, 300, requires_grad=True)
        >>> estimator = ILSTemperedDiagonal()
        >>> estimator(logits, lambda z: z[..., 0].square().sum(-1)).sum().backward()
        >>> estimator.h.shape
        torch.Size([1, 300])
    """

    equation = r"""
        m &= \operatorname{softmax}(\theta / \tau) + z \\
        R v &= m \left(v - \tfrac{1}{2} m \cdot v\right) - \tfrac{1}{2} J_\pi v \\
        \hat\nabla &= R (g - h z) + \mathbb{E}[R h z], \quad h \text{ as in ILSDiagonal}
    """

    def __init__(self, decay: float = 0.9, temperature: Option = 1.5) -> None:
        super().__init__(decay)
        self.temper(temperature)
