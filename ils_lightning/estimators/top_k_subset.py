"""SIMPLE: A Gradient Estimator for k-Subset Sampling (Ahmed, Zeng, Niepert and Van den Broeck, 2022, 2210.01941).

    p(z) ~ exp(theta . z) over the z with exactly k ones;   w = exp(theta);
    e_i,r = e_i-1,r + w_i e_i-1,r-1, the elementary symmetric polynomials of w_1 .. w_i;
    draw: i = n .. 1 with r ones left, include i with probability q_i,r = w_i e_i-1,r-1 / e_i,r;
    marginals mu = d log e_n,k / d theta = E z;   estimate = (d mu / d theta)^T g = Cov(z, z) g

The top k of theta + Gumbel is not this distribution. Exact for linear f; k = 1 is the straight-through estimator.
"""

from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.distribution import Categorical, Distribution
from ils_lightning.estimators.sampler import Pullback
from ils_lightning.estimators.subsets import Subsets, covariance, draw_subset, inclusion


class TopKSubset(Pullback):
    """Draws exact k-subsets and passes df/dz through the Jacobian of their marginals.

    f sees vectors with k ones; for k > 1 the objective is the expectation under the k-subset distribution
    (`subsets.Subsets`), of which validation, KL terms, priors and codes of the models are made too. Costs a loop over
    the categories.

    Args:
        size: k, the number of ones.

    Example:
        >>> import torch
        >>> TopKSubset(size=2).sample(torch.zeros(2, 1, 4)).sum(-1)
        tensor([[2.],
                [2.]])
    """

    source = "Ahmed et al. 2022, 2210.01941"
    equation = r"""
        p(z) &\propto e^{\theta \cdot z} \text{ over the } z \text{ with exactly } k \text{ ones} \\
        w &= e^\theta \\
        e_{i,r} &= e_{i-1,r} + w_i \, e_{i-1,r-1} \quad \text{(elementary symmetric polynomials)} \\
        \mu &= \frac{\partial \log e_{n,k}}{\partial \theta} = \mathbb{E} z \\
        \hat\nabla &= \left(\frac{\partial \mu}{\partial \theta}\right)^\top g = \operatorname{Cov}(z, z) \, g
    """

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self.size = self.whole("size", size, 1)
        self.ones = size
        self.hard = size == 1
        self.exact_for = "linear"

    def check(self, logits: Tensor) -> None:
        super().check(logits)
        if logits.shape[-1] < self.size:
            raise Refusal(f"TopKSubset needs at least size = {self.size} categories; given {logits.shape[-1]}")
        if self.validates(logits) and ((logits > float("-inf")).sum(dim=-1) < self.size).any():
            raise Refusal(f"TopKSubset needs at least size = {self.size} unmasked categories in every row of logits")

    def distribution(self, logits: Tensor) -> Distribution:
        return Categorical(logits) if self.size == 1 else Subsets(logits, self.size)

    def draw(self, logits: Tensor, pi: Tensor) -> Tensor:
        return draw_subset(inclusion(logits, self.size)).to(pi.dtype)

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        return covariance(inclusion(logits, self.size), g.double())[1].to(pi.dtype)
