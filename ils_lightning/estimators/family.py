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

from typing import Any, ClassVar

import torch
from torch import Tensor

from ils_lightning.estimators.base import Option, Pullback, per_row
from ils_lightning.estimators.categorical import jacobian
from ils_lightning.estimators.distributed import sum_over_ranks

J = jacobian
SMALLEST_TRACE = 1e-12


def delta(g: Tensor, base: Tensor) -> Tensor:
    """Delta_b = g - b.g: the gradient seen from the base `[..., categories]`."""
    return g - (base * g).sum(dim=-1, keepdim=True)


def M_s(pi: Tensor, d: Tensor, g: Tensor, s: Any) -> Tensor:  # noqa: N802 (the name used in the formula)
    """M_s g = [J_pi g + s^2 d (d.g)] / (1 + s^2), linear in g `[..., categories]`; s is a number or broadcasts."""
    return (J(pi, g) + s**2 * d * (d * g).sum(dim=-1, keepdim=True)) / (1 + s**2)


def full_precision(like: Tensor) -> torch.autocast:
    """A context in which matrix products keep the precision of their arguments, inside any autocast."""
    return torch.autocast(like.device.type, enabled=False)


def rows(x: Tensor) -> Tensor:
    """Folds the batch `[*batch, latents, categories]` to rows `[rows, latents, categories]`."""
    return x.reshape(-1, *x.shape[-2:])


class Curved(Pullback):
    """M_s (g - H z) + 1/2 J_pi diag H, with H learnt from the draws of earlier steps; subclasses say what H is.

    State is pooled per latent over all rows, steps (an exponential moving sum) and ranks. It is read before it is
    updated, so that it never sees the present draw; it is updated in training mode only, and only by a step whose g
    is finite on every rank. A batch axis of settings is pooled over like any other.
    """

    needs_gradient = True
    pooled = True
    source = "this project"
    statistics: ClassVar[tuple[str, ...]]
    """Names of the buffers."""

    def __init__(self, decay: float = 0.9, base: Option = 0.5) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"{type(self).__name__}: decay must be in [0, 1); given {decay}")
        self.decay = decay
        self.option("base", base, strict=False)
        self.exact_for = "quadratic" if isinstance(base, int | float) and base == 1 else "linear"
        for name in self.statistics:
            self.register_buffer(name, None)

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        """Returns the shape of each statistic."""
        raise NotImplementedError(f"{type(self).__name__} must define shapes(latents, categories)")

    def curvature(self) -> Tensor:
        """Reads H from the state: `[latents, categories, categories]`, or its diagonal `[latents, categories]`."""
        raise NotImplementedError(f"{type(self).__name__} must define curvature()")

    def observe(self, pi: Tensor, z: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """Returns sums over the rows `[rows, latents, categories]` of one step, for `learn`; g is 0 where pi is."""
        raise NotImplementedError(f"{type(self).__name__} must define observe(pi, z, g)")

    def learn(self, *sums: Tensor) -> tuple[Tensor, ...]:
        """Returns the statistics after a step with these sums over rows and ranks: exponential moving sums."""
        return tuple(self.decay * getattr(self, name) + new for name, new in zip(self.statistics, sums, strict=True))

    def build(self, latents: int, categories: int) -> None:
        for name, shape in zip(self.statistics, self.shapes(latents, categories), strict=True):
            setattr(self, name, torch.zeros(shape, dtype=torch.float64))

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        with torch.no_grad(), full_precision(pi):
            self._prepare(pi)
            H = self.curvature().to(pi.dtype)
            estimate = self.step(pi, z, g, H, per_row(self.base, pi))
            if self.training:
                self._update(rows(pi), rows(z), rows(g))
        return estimate

    def step(self, pi: Tensor, z: Tensor, g: Tensor, H: Tensor, s: Any) -> Tensor:
        """The estimate for a given curvature."""
        if H.dim() == 2:
            return M_s(pi, z - pi, g - H * z, s) + J(pi, H) / 2
        h = H.diagonal(dim1=-2, dim2=-1)
        return M_s(pi, z - pi, g - torch.einsum("lkj,...lj->...lk", H, z), s) + J(pi, h) / 2

    def _prepare(self, pi: Tensor) -> None:
        if getattr(self, self.statistics[0]) is None:
            self.build(*pi.shape[-2:])
        first = getattr(self, self.statistics[0])
        if first.shape != self.shapes(*pi.shape[-2:])[0]:
            raise ValueError(
                f"{type(self).__name__} keeps the curvature of one problem, so each layer needs its own instance. Its "
                f"state has shape {list(first.shape)}; given latents x categories = {list(pi.shape[-2:])}"
            )
        if first.device != pi.device:
            self.to(pi.device)

    def _update(self, pi: Tensor, z: Tensor, g: Tensor) -> None:
        g = torch.where(pi > 0, g, 0)
        sums = [sum_over_ranks(x.double()) for x in self.observe(pi, z, g)]
        finite = torch.stack([torch.isfinite(x).all() for x in sums]).all()
        for name, new in zip(self.statistics, self.learn(*sums), strict=True):
            old = getattr(self, name)
            old.copy_(torch.where(finite, new, old))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.statistics:
            saved = state_dict.get(prefix + name)
            if saved is not None and getattr(self, name) is None:
                setattr(self, name, torch.zeros_like(saved))
        super()._load_from_state_dict(state_dict, prefix, *args)
