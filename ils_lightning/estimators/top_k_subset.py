"""SIMPLE: A Gradient Estimator for k-Subset Sampling (Ahmed, Zeng, Niepert and Van den Broeck, 2022, 2210.01941).

    p(z) ~ exp(theta . z) over the z with exactly k ones;   w = exp(theta);
    e_i,r = e_i-1,r + w_i e_i-1,r-1, the elementary symmetric polynomials of w_1 .. w_i;
    draw: i = n .. 1 with r ones left, include i with probability q_i,r = w_i e_i-1,r-1 / e_i,r;
    marginals mu = d log e_n,k / d theta = E z;   estimate = (d mu / d theta)^T g = Cov(z, z) g

The top k of theta + Gumbel is not this distribution. Exact for linear f; k = 1 is the straight-through estimator.
"""

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Loss, Pullback, evaluate


class TopKSubset(Pullback):
    """Draws exact k-subsets and passes df/dz through the Jacobian of their marginals.

    f sees vectors with k ones; for k > 1 the objective is the expectation under the k-subset distribution, also in
    validation. Costs a loop over the categories.

    Args:
        size: k, the number of ones.

    Example:
        >>> import torch
        >>> TopKSubset(size=2).sample(torch.zeros(2, 1, 4)).sum(-1)
        tensor([[2.],
                [2.]])
    """

    source = "Ahmed et al. 2022, 2210.01941"

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        if size < 1:
            raise Refusal(f"TopKSubset: size must be at least 1; given {size}")
        self.size = size
        self.hard = size == 1
        self.exact_for = "linear"

    def check(self, logits: Tensor) -> None:
        super().check(logits)
        if logits.shape[-1] < self.size:
            raise Refusal(f"TopKSubset needs at least size = {self.size} categories; given {logits.shape[-1]}")
        if self._validates(logits) and ((logits > float("-inf")).sum(dim=-1) < self.size).any():
            raise Refusal(f"TopKSubset needs at least size = {self.size} unmasked categories in every row of logits")

    def value(self, logits: Tensor, f: Loss) -> Tensor:
        """Returns the loss `[*batch]` of one exact k-subset."""
        self.check(logits)
        return evaluate(f, self.draw(logits, logits).to(logits.dtype).unsqueeze(0)).squeeze(0)

    def draw(self, logits: Tensor, pi: Tensor) -> Tensor:
        return draw_subset(inclusion(logits, self.size)).to(pi.dtype)

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        return covariance(inclusion(logits, self.size), g.double())[1].to(pi.dtype)


def inclusion(logits: Tensor, size: int) -> Tensor:
    """Q `[categories, *batch, latents, size + 1]`, the probability of including i with r ones left for 1 .. i."""
    theta = logits.detach().double()
    theta = theta - theta.amax(dim=-1, keepdim=True)
    impossible = torch.full_like(theta[..., :1], float("-inf"))
    log_e = torch.cat([torch.zeros_like(impossible), impossible.expand(*theta.shape[:-1], size)], dim=-1)
    q = []
    for weight in theta.split(1, dim=-1):
        include = torch.cat([impossible, weight + log_e[..., :-1]], dim=-1)
        log_e = torch.logaddexp(log_e, include)
        q.append(torch.where(torch.isfinite(include), (include - log_e).exp(), 0))
    return torch.stack(q)


def draw_subset(q: Tensor) -> Tensor:
    """Draws k-hot vectors `[*batch, latents, categories]` given the inclusion probabilities."""
    left = torch.full_like(q[0, ..., :1], q.shape[-1] - 1, dtype=torch.long)
    u = torch.rand(q.shape[:-1], dtype=q.dtype, device=q.device).unsqueeze(-1)
    z = []
    for i in reversed(range(len(q))):
        included = u[i] < q[i].gather(-1, left)
        left = left - included.long()
        z.append(included)
    return torch.cat(z[::-1], dim=-1).to(q.dtype)


def covariance(q: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the marginals mu = E z and Cov(z, z) g, both `[*batch, latents, categories]`.

    Follows the draw as a Markov chain over r: `ahead[r]` is the expectation of z.g over the categories still to come,
    `reach[r]` the probability of r ones left, and `behind[r]` reach times the expectation of what was passed.
    """
    ahead = [torch.zeros_like(q[0])]
    for i, here in enumerate(q):
        ahead.append((1 - here) * ahead[i] + here * (g[..., i : i + 1] + _shift(ahead[i], 1)))
    reach = torch.zeros_like(q[0])
    reach[..., -1] = 1
    behind = -reach * ahead[-1][..., -1:]
    mu, moved = [], []
    for i in reversed(range(len(q))):
        gain, here = g[..., i : i + 1], q[i]
        taken, taken_behind = reach * here, behind * here + reach * here * gain
        mu.append(taken.sum(dim=-1))
        moved.append((taken_behind + taken * _shift(ahead[i], 1)).sum(dim=-1))
        reach = reach * (1 - here) + _shift(taken, -1)
        behind = behind * (1 - here) + _shift(taken_behind, -1)
    return torch.stack(mu[::-1], dim=-1), torch.stack(moved[::-1], dim=-1)


def _shift(v: Tensor, places: int) -> Tensor:
    """Moves entries along r: 1 puts entry r - 1 at r, -1 puts entry r + 1 at r; zeros come in."""
    return torch.nn.functional.pad(v, (1, -1) if places == 1 else (-1, 1))
