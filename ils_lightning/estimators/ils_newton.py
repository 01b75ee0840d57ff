"""ILS with a Newton step: straight-through or ReinMax without the noise of the row's own draw (this project).

    estimate = M_s (g - H z) + 1/2 J_pi diag H,   d = z - pi
    S = moving sum of (g - mean_k g) d^T,   P = moving sum of J_pi,   over rows, steps and ranks
    H = sym[(S + r eta C)(P + r C + t (I - C) + 1e-12 I)^-1]
    C = I - 11^T / K,   eta = trS / trP,   t = trP / K,   r = ridge t

With H of the population the expectation is ReinMax's for every f, at a fraction of its variance.

Choosing the base from the data was considered and left: in a digits autoencoder a lower base trades variance for bias,
and which sum is least depends on how many steps the optimiser averages over (`python
experiments/pooling_table.py`). What pays is to take away the noise of the other latents' draws, and of the base itself,
without bias: see `ILSJoint`.
"""

from functools import partial

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Option
from ils_lightning.estimators.categorical import difference, one_hot, readable
from ils_lightning.estimators.family import SMALLEST_TRACE, Curved, Draws, Read, centred, full_precision

LARGEST_RIDGE = 1e6
"""Beyond it the system is singular to float64."""


class ILSNewton(Curved):
    """Removes from the estimate what a pooled curvature matrix explains of the draw's own noise.

    Use it up to about 64 categories and from about 32 rows a step: the state is a K x K matrix per latent, and each
    step that it learns from inverts one such matrix per latent, whatever the number of rows. Above, use `ILSDiagonal`,
    whose state is a vector and whose variance is a little higher; for 2 categories `ILSIsotropic` is the same method
    with a number.

    Each layer needs its own instance: the curvature of one is wrong in another. The first step has H = 0: a base of 0
    is then straight-through. Rows whose curvatures differ share one H; the expectation is then off ReinMax's, by a
    share (1 - s^2)/(1 + s^2) of what it is at base 0.

    Args:
        decay: weight of the past in the moving sums, in [0, 1).
        ridge: pull of H towards a multiple of the identity, relative to the mean of P's diagonal. It leaves a bias
            of about half a percent at .01.
        base: s of the step's base pi + s d: 0 has the least variance, 1 the least bias; above 1 both grow.
        every: 1 learns from every step. More, such as 8, is faster: it learns from each of the first steps (15 for 8),
            and later from fewer and fewer, down to one in so many. The weight of the past at each of these is
            decay^sqrt(gap), so that memory is longer in steps and shorter in rows.

    Example:
        >>> import torch
        >>> logits = torch.zeros(64, 1, 3, requires_grad=True)
        >>> estimator = ILSNewton()
        >>> for step in range(2):
        ...     estimator(logits, lambda z: z[..., 0].square().sum(-1)).sum().backward()
        >>> estimator.S.shape
        torch.Size([1, 3, 3])
    """

    equation = r"""
        d &= z - \pi \\
        M_s v &= \frac{J_\pi v + s^2 d \, (d \cdot v)}{1 + s^2} \\
        \hat\nabla &= M_s (g - H z) + \tfrac{1}{2} J_\pi \operatorname{diag} H \\
        S &= \langle (g - \overline{g}) \, d^\top \rangle \\
        P &= \langle J_\pi \rangle \\
        H &= \operatorname{sym}\left[(S + r \eta C)(P + r C + t (I - C) + 10^{-12} I)^{-1}\right] \\
        C &= I - \tfrac{1}{K} \mathbf{1} \mathbf{1}^\top \\
        \eta &= \frac{\operatorname{tr} S}{\operatorname{tr} P} \\
        t &= \frac{\operatorname{tr} P}{K} \\
        r &= \text{ridge} \cdot t
    """

    statistics = ("S", "P")
    S: Tensor
    P: Tensor

    def __init__(self, decay: float = 0.9, ridge: float = 0.01, base: Option = 0.5, every: int = 1) -> None:
        super().__init__(decay, base)
        self.every = self.whole("every", every, 1)
        if not 0 <= ridge <= LARGEST_RIDGE:
            raise Refusal(f"{type(self).__name__}: ridge must be from 0 to {LARGEST_RIDGE:g}; given {ridge}")
        self.ridge = ridge
        self.ranges["ridge"] = (0.0, False)

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        return ((latents, categories, categories),) * 2

    def inverse(self) -> tuple[Tensor, Tensor]:
        """Returns the regularised P's inverse, 0 for latents that have no noise to learn from, and S + r eta C."""
        S, P = self.S.double(), self.P.double()
        of_P = P.diagonal(dim1=-2, dim2=-1)
        C, count = centring(of_P > 0)
        trace = of_P.sum(dim=-1)[:, None, None]
        empty = (trace < SMALLEST_TRACE) | (count < 2)
        t = (trace / count).masked_fill_(empty, 1)
        r, eta = self.ridge * t, S.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[:, None, None] / (t * count)
        system = torch.addcmul(P, r - t, C)  # P + r C + t (I - C), save for what is diagonal
        system.diagonal(dim1=-2, dim2=-1).add_(t.squeeze(-1) + 1e-12)
        return torch.linalg.inv(system).masked_fill_(empty, 0), torch.addcmul(S, r * eta, C)

    def curvature(self) -> Tensor:
        inverse, S = self.inverse()
        return symmetric(S @ inverse)

    def observe(self, pi: Tensor, z: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        return self.moments(pi, z, centred(g, pi))

    def moments(self, pi: Tensor, z: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """The sums of `observe`, for g that is centred: g d^T and J_pi, in one product."""
        left, right = torch.cat([g, pi], dim=1), torch.cat([z - pi, pi], dim=1)
        S, pairs = torch.bmm(left.permute(1, 2, 0), right.transpose(0, 1)).chunk(2)
        pairs.diagonal(dim1=-2, dim2=-1).zero_()
        return S, torch.diag_embed(pairs.sum(dim=-1)) - pairs  # sum pi (1 - pi) without cancellation near a vertex

    def study(self, draws: Draws) -> None:
        with full_precision(draws.pi):
            self.update(draws.squares(), *self.moments(draws.pi, draws.z, draws.centred))

    def rearranged(self, logits: Tensor, pi: Tensor, index: Tensor, g: Tensor) -> Tensor:
        """The same with H z looked up."""
        self.prepare(pi)
        read = self.reading(self.ridge, pi.dtype, make=partial(self.read, pi))
        columns = read.H.flatten(0, 1)  # and rows, for it is symmetric
        Hz = columns.index_select(0, (index + read.first).flatten()).view(g.shape)
        if self.training and self.due():
            self.learn_later(pi, lambda counted: self.study(drawn(pi, index, g, counted)))
        return self.stepped(logits, pi, index, difference(pi, g, Hz), read, None)

    def read(self, like: Tensor) -> Read:
        """Reads what the estimate takes from the state, in the dtype of `like`."""
        with torch.no_grad(), full_precision(like):
            return Read(self.curvature().to(like.dtype))


def symmetric(H: Tensor) -> Tensor:
    """The symmetric part of matrices."""
    return (H + H.mT).div_(2)


def drawn(pi: Tensor, index: Tensor, g: Tensor, counted: Tensor) -> Draws:
    """The draws of categories `index` `[*batch, latents]`, in the usual layout; see `Draws.of`."""
    return Draws.of(pi.contiguous(), one_hot(index, pi), g, counted)


def whole_centring(categories: int) -> tuple[Tensor, Tensor]:
    """What `centring` returns where all categories are allowed, on the CPU."""
    count = torch.full((1, 1, 1), categories, dtype=torch.float64, device="cpu")
    return torch.eye(categories, dtype=torch.float64, device="cpu") - 1 / count, count


def centring(allowed: Tensor) -> tuple[Tensor, Tensor]:
    """C = I - 11^T / K on the categories `allowed` `[latents, categories]`, and their number K `[latents, 1, 1]`."""
    if readable(allowed) and allowed.all():  # as usual
        return whole_centring(allowed.shape[-1])
    allowed = allowed.double()
    count = allowed.sum(dim=-1)[:, None, None].clamp(min=1)
    return torch.diag_embed(allowed) - allowed[:, :, None] * (allowed[:, None, :] / count), count
