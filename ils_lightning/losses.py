"""Losses of the toy problems: f(z, x) for draws z of the model and what the data give, x.

z is `[samples, *batch, latents, categories]`, x `[*batch, categories]`; the answer is `[samples, *batch]`.
"""

import math

import torch
from torch import Tensor

from ils_lightning.describe import Described
from ils_lightning.errors import Refusal

__all__ = ["BilinearEnergy", "CrossEntropyAt", "ExpectedKL", "LogLoss", "LossAt", "RBFEnergy", "ToyLoss"]


class ToyLoss(Described):
    """A loss between model draws and data; `latents` is the number of draws of the model it needs."""

    _abstract = True

    latents: int = 1

    def at(self, x: Tensor) -> "LossAt":
        """Returns f, the loss against `x` as a function of z alone."""
        return LossAt(self, x)

    def __call__(self, z: Tensor, x: Tensor) -> Tensor:
        """Returns the loss of each draw."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(z, x)")


class LossAt:
    """f(z) = loss(z, x). One that knows df/dz at draws z `[*batch, latents, categories]` has `closed_form_gradient`."""

    def __init__(self, loss: ToyLoss, x: Tensor) -> None:
        self.loss, self.x = loss, x

    def __call__(self, z: Tensor) -> Tensor:
        return self.loss(z, self.x)


class CrossEntropyAt(LossAt):
    """-sum_k x_k log(z_k + epsilon) / categories + constant, with its gradient; what x alone decides is made once."""

    def __init__(self, loss: ToyLoss, x: Tensor, epsilon: float, constant: Tensor | float = 0.0) -> None:
        super().__init__(loss, x)
        self.epsilon, self.constant = epsilon, constant
        self.weights = x.unsqueeze(-2) / -x.shape[-1]

    def __call__(self, z: Tensor) -> Tensor:
        return (self.weights * torch.log(z + self.epsilon)).sum(dim=(-2, -1)) + self.constant

    def closed_form_gradient(self, z: Tensor) -> Tensor:
        """Returns df/dz."""
        return self.weights / (z + self.epsilon)


class ExpectedKL(ToyLoss):
    """KL(x || z) / categories, with the published epsilon inside both logarithms.

    With x the true distribution this is toy example 1 of Intermediate Loss Sampling: by Jensen's inequality its
    expectation bounds KL(x || E z) from above, yet it is linear in the model's probabilities, so its exact minimiser is
    the most probable category, not x.

    Args:
        epsilon: added inside the logarithms.
    """

    def __init__(self, epsilon: float = 1e-8) -> None:
        if epsilon <= 0:
            raise Refusal(f"ExpectedKL: epsilon must be greater than 0 (one-hot draws hold zeros); given {epsilon}")
        self.epsilon = epsilon

    def at(self, x: Tensor) -> LossAt:
        negative_entropy = (x * torch.log(x + self.epsilon)).mean(dim=-1)
        return CrossEntropyAt(self, x, self.epsilon, negative_entropy)

    def __call__(self, z: Tensor, x: Tensor) -> Tensor:
        return self.at(x)(z)


class LogLoss(ToyLoss):
    """-log of the model's draw at the single observed draw x, divided by the number of categories.

    Args:
        epsilon: added inside the logarithm.
    """

    def __init__(self, epsilon: float = 1e-8) -> None:
        if epsilon <= 0:
            raise Refusal(f"LogLoss: epsilon must be greater than 0 (one-hot draws hold zeros); given {epsilon}")
        self.epsilon = epsilon

    def at(self, x: Tensor) -> LossAt:
        return CrossEntropyAt(self, x, self.epsilon)

    def __call__(self, z: Tensor, x: Tensor) -> Tensor:
        return self.at(x)(z)


class BilinearEnergy(ToyLoss):
    """z.z' - x.z - x.z' for two model draws: its expectation is |p - pi|^2 - |p|^2, minimised exactly at pi = p."""

    latents = 2

    def __call__(self, z: Tensor, x: Tensor) -> Tensor:
        first, second = z.unbind(dim=-2)
        return self.kernel(first, second) - self.kernel(x, first) - self.kernel(x, second)

    def kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """Similarity of two points: 1 for equal categories, 0 for different ones."""
        return (a * b).sum(dim=-1)


class RBFEnergy(BilinearEnergy):
    """The same energy with a Gaussian kernel: equal on one-hot draws, curved between them.

    Args:
        bandwidth: width of the kernel; categories lie sqrt(2) apart.
    """

    def __init__(self, bandwidth: float = 1.0) -> None:
        if bandwidth <= 0:
            raise Refusal(f"RBFEnergy: bandwidth must be greater than 0; given {bandwidth}")
        self.bandwidth = bandwidth

    def kernel(self, a: Tensor, b: Tensor) -> Tensor:
        apart = math.exp(-1 / self.bandwidth**2)
        near = torch.exp(-(a - b).square().sum(dim=-1) / (2 * self.bandwidth**2))
        return (near - apart) / (1 - apart)
