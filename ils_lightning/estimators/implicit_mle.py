"""Implicit MLE, I-MLE (Niepert, Minervini and Franceschi, 2021, 2106.01798).

Paper: Implicit MLE: Backpropagating Through Discrete Exponential Family Distributions.

    z = MAP(theta + eps), eps standard Gumbel, MAP = one-hot argmax;
    estimate = (1/lambda) [MAP(theta + eps) - MAP(theta - lambda g + eps)]

With Gumbel noise of temperature 1 draws follow softmax(theta) exactly; the paper's Sum-of-Gamma noise is the same for
one-hot draws. E of the estimate is [pi - softmax(theta - lambda g)] / lambda for linear f: J(pi) g as lambda -> 0.
The paper's algorithm and its released programs return z - z', without the division.
"""

from torch import Tensor

from ils_lightning.estimators.base import Option, per_row
from ils_lightning.estimators.categorical import conditional_gumbel, one_hot
from ils_lightning.estimators.sampler import Pullback


class ImplicitMLE(Pullback):
    """Compares the draw with the one that the same noise gives after a step down the loss.

    The step acts on one example's df/dz. A scale that is large against the loss saturates: the estimate's size then no
    longer depends on df/dz.

    Args:
        scale: lambda, the length of the step.
        divisor: by which the difference is divided; `scale` unless given, which makes the estimate one of the gradient.
            1 is the published setting: estimates `scale` times as long, which matters beside other terms of a loss.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> loss = ImplicitMLE(scale=1.0)(logits, lambda z: z[..., 0].sum(-1))
        >>> loss.sum().backward()
    """

    source = "Niepert et al. 2021, 2106.01798"
    equation = r"""
        z &= M(\theta + \epsilon) \\
        \epsilon &\sim \mathrm{Gumbel}(0, 1) \\
        M &= \text{one-hot } \argmax \\
        \hat\nabla &= \frac{1}{\lambda} \left[M(\theta + \epsilon) - M(\theta - \lambda g + \epsilon)\right]
    """

    def __init__(self, scale: Option = 10.0, divisor: Option | None = None) -> None:
        super().__init__()
        self.option("scale", scale)
        self.divisor: Option | None = None
        if divisor is not None:
            self.option("divisor", divisor)

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        step = per_row(self.scale, logits)
        # The noise given its argmax has the law of the noise behind the draw, so the draw itself may be any exact one.
        perturbed = conditional_gumbel(logits.to(pi.dtype), z)
        divisor = step if self.divisor is None else per_row(self.divisor, logits)
        return (z - one_hot((perturbed - step * g).argmax(dim=-1), z)) / divisor
