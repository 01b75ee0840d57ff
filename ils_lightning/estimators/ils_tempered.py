"""ReinMax at any temperature with the joint curvature of all latents: its expectation, far less noise (this project).

    estimate = R (g - H z) + E R H z - kappa R u - nu (R theta - E R theta),   R v = m (v - m.v / 2) - 1/2 J_p v
    m = softmax(theta / tau) + z;   H, u, kappa and nu are those of `ILSJoint`, E R of `tempered`

R is ReinMax(tau), linear in the gradient, and E[u_l | z_l] = 0: the expectation is ReinMax(tau)'s exactly, for every f
and whatever H, kappa and nu have learnt. At tau = 1 it is ILSJoint(base=1).
"""

from ils_lightning.estimators.base import Option
from ils_lightning.estimators.ils_joint import ILSJoint
from ils_lightning.estimators.tempered import Tempered


class ILSTempered(Tempered, ILSJoint):
    """`ReinMax` at a temperature, without the noise that a pooled joint curvature and the logits explain.

    Use it where ReinMax is tuned to a temperature: whatever temperature serves there serves here, at the same
    expectation. The state has (latents x categories)^2 numbers, so it is meant for up to about a thousand of those;
    each layer needs its own instance.

    Args:
        decay: weight of the past in the moving sums, in [0, 1).
        ridge: as in `ILSNewton`.
        temperature: tau of ReinMax's backward pass; draws always follow softmax(logits).
        every: as in `ILSNewton`.

    Example:
        >>> import torch
        >>> logits = torch.zeros(64, 2, 3, requires_grad=True)
        >>> estimator = ILSTempered(temperature=1.5)
        >>> for step in range(3):
        ...     estimator(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
        >>> estimator.T.shape
        torch.Size([6, 6])
    """

    equation = r"""
        m &= \operatorname{softmax}(\theta / \tau) + z \\
        R v &= m \left(v - \tfrac{1}{2} m \cdot v\right) - \tfrac{1}{2} J_\pi v \\
        \hat\nabla &= R (g - H z) + \mathbb{E}[R H z] - \kappa \, R u - \nu \, (R \theta - \mathbb{E} R \theta) \\
        H, u, \kappa, \nu &\text{ as in ILSJoint}
    """

    def __init__(self, decay: float = 0.9, ridge: float = 0.01, temperature: Option = 1.5, every: int = 1) -> None:
        super().__init__(decay, ridge, every=every)
        self.temper(temperature)
