"""The base of all variables: a distribution of one number with one parameter, whose expectations can be summed."""

from typing import ClassVar

from torch import Tensor

from ils_lightning.describe import Described


class Law(Described):
    """A distribution of one number; subclasses say by which values and weights expectations are sums."""

    _abstract = True
    farthest: ClassVar[float] = 12.0
    """How far from 0 a parameter is worth looking for."""

    def nodes(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Values and weights `[points, *theta.shape]` with E g(x) = sum of weight times g(value).

        They are differentiable in theta: so is the sum.
        """
        raise NotImplementedError(f"{type(self).__name__} must define nodes(theta)")
