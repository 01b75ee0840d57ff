"""The step of ReinMax(tau) for the curved family: its bias at any temperature, less noise (this project).

    q = softmax(theta / tau),   p = softmax(theta),   m = q + z
    R v = m (v - m.v / 2) - 1/2 J_p v, what ReinMax(tau) makes of a gradient v
    E R v = q v + p v - 1/2 [q (q.v) + q (p.v) + p (q.v) + p v] - 1/2 J_p v
    E R H z = q (H p) + p diag H - 1/2 [q (p.w) + p w] - 1/2 J_p H p,   w = H q + diag H

R is linear, so R (g - H z) + E R H z has ReinMax(tau)'s expectation for any symmetric H that does not see the draw.
"""

from typing import Literal

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option, is_one, per_row
from ils_lightning.estimators.categorical import beside, plain, probabilities
from ils_lightning.estimators.family import Curved, J, Read, Step, diagonal, product


class TemperedStep(Step):
    """R of ReinMax(tau) at one draw.

    Args:
        p: probabilities `[*batch, latents, categories]`.
        q: those at temperature tau, alike.
        z: the draw, alike.
    """

    def __init__(self, p: Tensor, q: Tensor, z: Tensor) -> None:
        super().__init__(p, z, 1.0)
        self.q, self.m = q, q + z

    def __call__(self, v: Tensor) -> Tensor:
        return self.m * (v - dot(self.m, v) / 2) - J(self.pi, v) / 2

    def mean(self, v: Tensor) -> Tensor:
        p, q = self.pi, self.q
        return q * v + p * v - (q * dot(q + p, v) + p * dot(q, v) + p * v) / 2 - J(p, v) / 2

    def explained(self, H: Tensor) -> Tensor:
        p, q, Hp = self.pi, self.q, product(H, self.pi)
        w = product(H, q) + diagonal(H)
        return q * Hp + p * diagonal(H) - (q * dot(p, w) + p * w) / 2 - J(p, Hp) / 2


def dot(x: Tensor, y: Tensor) -> Tensor:
    """The inner product over categories `[..., 1]`."""
    return (x * y).sum(dim=-1, keepdim=True)


class Tempered(Curved):
    """A member of the curved family whose step has a temperature in the place of a base."""

    _abstract = True

    temperature: Option

    def temper(self, temperature: Option) -> None:
        """Replaces the option `base` by `temperature`."""
        del self.base, self.ranges["base"]
        self.option("temperature", temperature)

    @property
    def exact_for(self) -> Literal["none", "linear", "quadratic", "all"]:
        return "quadratic" if is_one(self.temperature) else "none"

    def at(self, logits: Tensor, pi: Tensor, z: Tensor) -> TemperedStep:
        return TemperedStep(pi, self.q(logits, pi), z)

    def q(self, logits: Tensor, pi: Tensor) -> Tensor:
        """softmax(logits / tau)."""
        tau = per_row(self.temperature, logits)
        return pi if is_one(tau) else probabilities(logits / tau).to(pi.dtype)

    def stepped(self, logits: Tensor, pi: Tensor, index: Tensor, v: Tensor, read: Read, guess: Tensor | None) -> Tensor:
        """With y = v + H p + guess and e = diag H + guess it is as below.

        q (y - (q.y + v[z] + p.e) / 2) + p (e - H q - y + p.y - q.guess) / 2 + z (v[z] - q.v) / 2
        """
        p, q, k = pi, self.q(logits, pi), index.unsqueeze(-1)
        guess = torch.zeros_like(v) if guess is None else beside(p, guess)
        Hp = beside(p, product(read.H, p))
        Hq = Hp if q is p else beside(p, product(read.H, q))
        y, e, at_draw = (v + Hp).add_(guess), guess + read.diagonal, v.gather(-1, k)
        own = (at_draw - dot(q, v)).div_(2)
        shared = dot(p, y).sub_(dot(q, guess))
        at_q = y - (dot(q, y).add_(at_draw).add_(dot(p, e)) / 2)
        at_p = e.sub_(Hq).sub_(y).add_(shared).mul_(p)
        estimate = torch.addcmul(at_p.div_(2), q, at_q, out=plain(at_p))
        return estimate.scatter_add_(-1, k, own)
