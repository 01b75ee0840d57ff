"""The distribution of subsets of exactly k categories (Ahmed et al., 2022, 2210.01941).

p(z) = exp(theta . z) / e_n,k(w) over the z with exactly k ones;   w = exp(theta);
e_i,r = e_i-1,r + w_i e_i-1,r-1, the elementary symmetric polynomials of w_1 .. w_i;
draw: i = n .. 1 with r ones left, include i with probability q_i,r = w_i e_i-1,r-1 / e_i,r;
mu = d log e_n,k / d theta = E z;   d mu / d theta = Cov(z, z);
KL(q || p) = mu_q . (theta_q - theta_p) - log e(theta_q) + log e(theta_p)
"""

from functools import cached_property
from typing import Any, Self

import torch
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

from ils_lightning.estimators.categorical import uniform
from ils_lightning.estimators.distribution import Distribution


class Subsets(Distribution):
    """`size` categories a latent, all different.

    Args:
        logits: theta `[*batch, latents, categories]`; -inf masks a category.
        size: k, the number of ones.

    Example:
        >>> import torch
        >>> round(Subsets(torch.zeros(1, 4), 2).entropy().exp().item(), 4)      # all six pairs
        6.0
    """

    def __init__(self, logits: Tensor, size: int) -> None:
        super().__init__(logits.float() if logits.element_size() < 4 else logits)
        self.ones = size

    def alike(self, logits: Tensor) -> Self:
        return type(self)(logits, self.ones)

    @cached_property
    def pi(self) -> Tensor:
        return Marginals.apply(self.logits, self.ones)

    @cached_property
    def log_total(self) -> Tensor:
        """Log e_n,k `[*batch, latents]`, the logarithm of what the weights of all subsets add up to."""
        return LogTotal.apply(self.logits, self.ones)

    def log_prob(self, z: Tensor) -> Tensor:
        masked = self.logits == float("-inf")
        weight = (z * self.logits.masked_fill(masked, 0)).sum(dim=-1) - self.log_total
        return weight.masked_fill((masked & (z != 0)).any(dim=-1), float("-inf"))

    def draw(self, samples: int | None = None, generator: Generator | None = None) -> Tensor:
        q = inclusion(self.logits, self.ones)
        if samples is not None:
            q = q.unsqueeze(1).expand(-1, samples, *q.shape[1:])
        return draw_subset(q, generator).to(self.logits.dtype)

    def kl(self, p: Any) -> Tensor:
        apart = (self.logits - p.logits).masked_fill(self.pi == 0, 0)
        return (self.pi * apart).sum(dim=-1) - self.log_total + p.log_total

    def entropy(self) -> Tensor:
        return self.log_total - (self.pi * self.logits.masked_fill(self.pi == 0, 0)).sum(dim=-1)


class Marginals(torch.autograd.Function):
    """The marginals mu `[*batch, latents, categories]`; backward is Cov(z, z) g."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, size: int) -> Tensor:
        q = inclusion(theta, size)
        ctx.save_for_backward(q)
        return covariance(q, torch.zeros_like(theta, dtype=q.dtype))[0].to(theta.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple:
        (q,) = ctx.saved_tensors
        return covariance(q, g.to(q.dtype))[1].to(g.dtype), None


class LogTotal(torch.autograd.Function):
    """The log-normaliser `[*batch, latents]`; backward is the marginals."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, size: int) -> Tensor:
        q, total = _recursion(theta, size)
        ctx.save_for_backward(q)
        return total.to(theta.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, c: Tensor) -> tuple:
        (q,) = ctx.saved_tensors
        mu = covariance(q, torch.zeros(q.shape[1:-1] + q.shape[:1], dtype=q.dtype, device=q.device))[0]
        return c.unsqueeze(-1) * mu.to(c.dtype), None


def inclusion(logits: Tensor, size: int) -> Tensor:
    """Q `[categories, *batch, latents, size + 1]`, the probability of including i with r ones left for 1 .. i."""
    return _recursion(logits, size)[0]


def _recursion(logits: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Returns Q, and log e_n,k `[*batch, latents]`; float64, without gradient."""
    theta = logits.detach().double()
    largest = theta.amax(dim=-1, keepdim=True)
    theta = theta - largest
    impossible = torch.full_like(theta[..., :1], float("-inf"))
    log_e = torch.cat([torch.zeros_like(impossible), impossible.expand(*theta.shape[:-1], size)], dim=-1)
    q = []
    for weight in theta.split(1, dim=-1):
        include = torch.cat([impossible, weight + log_e[..., :-1]], dim=-1)
        log_e = torch.logaddexp(log_e, include)
        q.append(torch.where(torch.isfinite(include), (include - log_e).exp(), 0))
    return torch.stack(q), log_e[..., size] + size * largest.squeeze(-1)


def draw_subset(q: Tensor, generator: Generator | None = None) -> Tensor:
    """Draws k-hot vectors `[*batch, latents, categories]` given the inclusion probabilities."""
    left = torch.full_like(q[0, ..., :1], q.shape[-1] - 1, dtype=torch.long)
    u = uniform(q.shape[:-1], q.device, generator).unsqueeze(-1)
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
