"""ReinMax for draws with k ones (this project), after Liu et al. 2023 (2304.08612) and Ahmed et al. 2022 (2210.01941).

    p(z) ~ exp(theta . z) over the z with exactly k ones, as `TopKSubset`;   mu = E z,  d = z - mu
    estimate = 1/2 [Cov(z, z) g + d (d . g)]

Exact in expectation for f quadratic in z, because theta is the natural parameter of an exponential family. Let
f = 1/2 z.Hz + b.z, so g = H z + b, and C = Cov(z, z). The gradient is

    Cov(z, f) = C (H mu + b) + 1/2 E[d (d.Hd)]

and with z = mu + d the estimate's expectation is 1/2 C (H mu + b) + 1/2 [C (H mu + b) + E d (d.Hd)], the same. At
k = 1 this is ReinMax, whose Heun rule it generalises.
"""

from torch import Tensor

from ils_lightning.estimators.subsets import covariance, inclusion
from ils_lightning.estimators.top_k_subset import TopKSubset


class TopKReinMax(TopKSubset):
    """Draws exact k-subsets; second-order backward.

    For routers to k of the experts and selections of k features, where the loss bends between the draws. f sees
    vectors with k ones; for k > 1 the objective is the expectation under the k-subset distribution, also in validation.

    Args:
        size: k, the number of ones.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 5, requires_grad=True)
        >>> TopKReinMax(size=2)(logits, lambda z: z[..., :2].sum((-2, -1)).square()).sum().backward()
    """

    source = "this project, after Liu et al. 2023, 2304.08612"
    equation = r"""
        p(z) &\propto e^{\theta \cdot z} \text{ over the } z \text{ with exactly } k \text{ ones} \\
        \mu &= \mathbb{E} z \\
        d &= z - \mu \\
        \hat\nabla &= \tfrac{1}{2} \left[\operatorname{Cov}(z, z) \, g + d \, (d \cdot g)\right]
    """

    def __init__(self, size: int = 1) -> None:
        super().__init__(size)
        self.exact_for = "quadratic"

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        mu, moved = covariance(inclusion(logits, self.size), g.double())
        d = z - mu
        return ((moved + d * (d * g).sum(dim=-1, keepdim=True)) / 2).to(pi.dtype)
