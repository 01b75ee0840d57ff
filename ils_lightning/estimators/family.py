"""The family of Intermediate Loss Sampling: steps in the metric of pi, sized by the inverse curvature of the loss.

    d = z - pi;   J_q v = q (v - q.v);   base b = pi + s d;   Delta_b = g - b.g
    v = b - alpha pi Delta_b, one step from the base in the metric of pi;   pi_D = v / sum(v)
    (b - pi_D) / (alpha (1 + s^2)) -> M_s g = [J_pi g + s^2 d (d.g)] / (1 + s^2) as alpha -> 0
    s = 0 is straight-through, s = 1 is ReinMax

A Newton step towards z - H^-1 g, H the curvature of f, has the logit gradient J_pi (g - H z + 1/2 diag H), in which H
is never inverted; with base s

    estimate = M_s (g - H z) + 1/2 J_pi diag H

Let rho = g - H z and c_k = (rho - pi.rho)_k d_k. For any symmetric H that does not see the present draw
    E estimate - E ReinMax = -1/2 (1 - s^2)/(1 + s^2) (E c - pi sum_k E c_k)
for every f: nothing at s = 1, and nothing at any s once H leaves no correlation c. The population's full matrix
H = sym(Cov(g, z) J_pi^+) does that, and so does the diagonal one that solves E c = 0.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option, is_one, per_row
from ils_lightning.estimators.categorical import jacobian, one_hot, plain, readable
from ils_lightning.estimators.learnt import Learnt
from ils_lightning.estimators.sampler import Pullback

J = jacobian
SMALLEST_TRACE = 1e-12


def delta(g: Tensor, base: Tensor) -> Tensor:
    """Delta_b = g - b.g: the gradient seen from the base `[..., categories]`."""
    return g - (base * g).sum(dim=-1, keepdim=True)


def M_s(pi: Tensor, d: Tensor, g: Tensor, s: Any) -> Tensor:  # noqa: N802 (the name used in the formula)
    """M_s g = [J_pi g + s^2 d (d.g)] / (1 + s^2), linear in g `[..., categories]`; s is a number or broadcasts."""
    return (J(pi, g) + s**2 * d * (d * g).sum(dim=-1, keepdim=True)) / (1 + s**2)


def M_s_at(pi: Tensor, k: Tensor, v: Tensor, e: Tensor, s: float) -> Tensor:  # noqa: N802
    """M_s v + J_pi e at the draw of category k `[*batch, latents, 1]`, in fewer passes; v, laid out as pi, is lost.

    It is pi (x - pi.x - a) + z a, with w = s^2 / (1 + s^2), x = (1 - w) v + e and a = w d.v.
    """
    w = s**2 / (1 + s**2)
    a = (v.gather(-1, k) - (pi * v).sum(dim=-1, keepdim=True)).mul_(w)
    x = v.mul_(1 - w).add_(e)
    x.sub_((pi * x).sum(dim=-1, keepdim=True).add_(a))
    return torch.mul(x, pi, out=plain(x)).scatter_add_(-1, k, a)


class Step:
    """The step's linear map from a gradient at one draw to the logits: v -> M_s v, with E M_s v = J_pi v.

    Args:
        pi: probabilities `[*batch, latents, categories]`.
        z: the draw, alike.
        s: of the base pi + s d; a number, or broadcasts.
    """

    def __init__(self, pi: Tensor, z: Tensor, s: Any) -> None:
        self.pi, self.d, self.s = pi, z - pi, s

    def __call__(self, v: Tensor) -> Tensor:
        return M_s(self.pi, self.d, v, self.s)

    def mean(self, v: Tensor) -> Tensor:
        """Its expectation over z, for a v that does not depend on z."""
        return J(self.pi, v)

    def explained(self, H: Tensor) -> Tensor:
        """What H z contributes to the gradient: that of 1/2 z.H z; at s = 1 the expectation of the map of H z."""
        return J(self.pi, diagonal(H)) / 2


def full_precision(like: Tensor) -> AbstractContextManager[Any]:
    """A context in which matrix products keep the precision of their arguments, inside any autocast."""
    device = like.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def rows(x: Tensor) -> Tensor:
    """Folds the batch `[*batch, latents, categories]` to rows `[rows, latents, categories]`."""
    return x.reshape(-1, *x.shape[-2:])


def centred(g: Tensor, pi: Tensor) -> Tensor:
    """Subtracts from g `[*batch, latents, categories]` its mean over the categories that `pi` allows."""
    support = (pi > 0).to(pi)
    return (g - (g * support).sum(dim=-1, keepdim=True) / support.sum(dim=-1, keepdim=True)) * support


@dataclass
class Draws:
    """A step's draws, folded to rows: those that do not count have pi = z and g = 0; g is 0 where pi is.

    Attributes:
        pi: probabilities `[rows, latents, categories]`.
        z: the draws, alike.
        g: gradients of the rows' losses, alike.
        number: 1 for a row that counts, else 0; `[rows]`.
    """

    pi: Tensor
    z: Tensor
    g: Tensor
    number: Tensor
    open: bool = False
    """Known to count everywhere, and no category to be masked."""

    @classmethod
    def of(cls, pi: Tensor, z: Tensor, g: Tensor, counted: Tensor) -> "Draws":
        """Folds tensors `[*batch, latents, categories]`; `counted`, up to `[*batch]`, says which rows count."""
        number = counted.to(pi).expand(pi.shape[:-2]).flatten()
        if readable(pi) and pi.numel() and counted.all() and pi.amin() > 0:  # as usual
            return cls(rows(pi), rows(z), rows(g), number, open=True)
        pi = torch.where(counted[..., None, None], pi, z)
        g = torch.where(counted[..., None, None] & (pi > 0), g, 0)
        return cls(rows(pi), rows(z), rows(g), number)

    @cached_property
    def centred(self) -> Tensor:
        """`centred` g."""
        return self.centre(self.g)

    def centre(self, g: Tensor) -> Tensor:
        """Subtracts from g, like `pi`, its mean over the categories that `pi` allows."""
        return g - g.mean(dim=-1, keepdim=True) if self.open else centred(g, self.pi)

    def only(self, x: Tensor) -> Tensor:
        """Sets what is no row that counts to 0 in x `[rows, ...]`."""
        return torch.where(self.number.reshape(-1, *(1,) * (x.dim() - 1)) > 0, x, 0)

    def squares(self) -> Tensor:
        """Sums over rows of |g - mean g|^2 for each latent, and the number of rows `[2, latents]`."""
        norm = torch.linalg.vector_norm(self.centred, dim=(0, -1), dtype=torch.float64)
        return torch.stack([norm.square(), self.number.sum().to(norm).expand_as(norm)])


class Curved(Learnt, Pullback):
    """R (g - H z) + E R H z, R the step's map (`Step`), H learnt from the draws of earlier steps by the subclass.

    It learns in training mode only, per latent, and from the rows whose loss has an upstream gradient: those where that
    is 0 (padding, say) teach nothing. A batch axis of settings is pooled over like any other.
    """

    _abstract = True

    needs_gradient = True
    pooled = True
    pooled_by_state = True
    source = "this project"

    def __init__(self, decay: float = 0.9, base: Option = 0.5) -> None:
        super().__init__()
        self.declare(decay)
        self.option("base", base, strict=False)

    @property
    def exact_for(self) -> Literal["none", "linear", "quadratic", "all"]:
        return "quadratic" if is_one(self.base) else "linear"

    def curvature(self) -> Tensor:
        """Reads H from the state: `[latents, categories, categories]`, or its diagonal `[latents, categories]`."""
        raise NotImplementedError(f"{type(self).__name__} must define curvature()")

    def observe(self, pi: Tensor, z: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """Returns sums over the rows `[rows, latents, categories]` of one step, for `learn`; g is 0 where pi is.

        A row that does not count has pi = z and g = 0, so that it adds nothing to a sum of products with d or J_pi.
        """
        raise NotImplementedError(f"{type(self).__name__} must define observe(pi, z, g)")

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        with torch.no_grad(), full_precision(pi):
            self.prepare(pi)
            H, R = self.curvature().to(pi.dtype), self.at(logits, pi, z)
            estimate = R(g - product(H, z)) + R.explained(H)
            if self.training and self.due():
                self.learn_later(pi, lambda counted: self.study(Draws.of(pi, z, g, counted)))
        return estimate

    def study(self, draws: Draws) -> None:
        """Learns from one step's draws."""
        with full_precision(draws.pi):
            self.update(draws.squares(), *self.observe(draws.pi, draws.z, draws.g))

    def at(self, logits: Tensor, pi: Tensor, z: Tensor) -> Step:
        """Returns the step's linear map at the draws z, all `[*batch, latents, categories]`."""
        del logits
        return Step(pi, z, per_row(self.base, pi))

    def stepped(
        self, logits: Tensor, pi: Tensor, index: Tensor, v: Tensor, read: "Read", guess: Tensor | None
    ) -> Tensor:
        """R v + E R H z + E R guess at the draws `index` `[*batch, latents]`, in few passes; v is lost.

        v is laid out as `pi`; v and the guess, where there is one, are `[*batch, latents, categories]`.
        """
        if isinstance(self.base, float):
            e = read.half if guess is None else guess + read.half
            return M_s_at(pi, index.unsqueeze(-1), v, e, self.base)
        R = self.at(logits, pi, one_hot(index, pi))
        estimate = R(v) + R.explained(read.H)
        return estimate if guess is None else estimate + R.mean(guess)


class Read:
    """What an estimate takes from the state of curvature matrices.

    Args:
        H: curvature of each latent `[latents, categories, categories]`, symmetric.

    Attributes:
        diagonal: of H `[latents, categories]`.
        half: of that.
        first: where a latent's begin, of all latents' categories in a row `[latents]`.
    """

    def __init__(self, H: Tensor) -> None:
        self.H, self.diagonal = H, diagonal(H).clone()
        self.half = self.diagonal / 2
        self.first = torch.arange(0, H.shape[:2].numel(), H.shape[1], device=H.device)


def product(H: Tensor, z: Tensor) -> Tensor:
    """H z `[*batch, latents, categories]`, for a matrix or a diagonal per latent."""
    if H.dim() == 2:
        return H * z
    return torch.bmm(rows(z).transpose(0, 1), H.mT).transpose(0, 1).reshape(z.shape)


def diagonal(H: Tensor) -> Tensor:
    """Diag H `[latents, categories]`, for a matrix or a diagonal per latent."""
    return H if H.dim() == 2 else H.diagonal(dim1=-2, dim2=-1)
