"""Natural exponential families, in which Intermediate Loss Sampling has a closed form without categories.

    density exp(theta x - A(theta));   mean mu = A'(theta),   variance V(mu) = A''(theta)
    intermediate loss KL(mu_D || mu) = A(theta) - theta mu_D + constant;   its derivative in theta is mu - mu_D

The third central moment is A''' = V V'(mu).
"""

from torch import Tensor

from ils_lightning.variables.law import Law


class NaturalFamily(Law):
    """Distributions of one number that are exponential in their natural parameter; subclasses say A, mu, V and V'."""

    _abstract = True

    def log_partition(self, theta: Tensor) -> Tensor:
        """A(theta), elementwise."""
        raise NotImplementedError(f"{type(self).__name__} must define log_partition(theta)")

    def mean(self, theta: Tensor) -> Tensor:
        """Mu = A'(theta)."""
        raise NotImplementedError(f"{type(self).__name__} must define mean(theta)")

    def variance(self, mu: Tensor) -> Tensor:
        """V(mu)."""
        raise NotImplementedError(f"{type(self).__name__} must define variance(mu)")

    def slope(self, mu: Tensor) -> Tensor:
        """V'(mu)."""
        raise NotImplementedError(f"{type(self).__name__} must define slope(mu)")

    def draw(self, mu: Tensor) -> Tensor:
        """Independent draws x of the means `mu`, of the same shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(mu)")

    def intermediate_loss(self, theta: Tensor, target: Tensor) -> Tensor:
        """KL from the member with mean `target` to the one with parameter `theta`, up to a constant in `theta`."""
        return self.log_partition(theta) - theta * target
