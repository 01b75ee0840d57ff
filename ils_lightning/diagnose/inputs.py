"""What is asked of a problem before it is measured, and the errors that name what it lacks."""

from functools import partial
from math import comb
from typing import NamedTuple

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators import Loss, evaluate
from ils_lightning.estimators.categorical import are_logits, kind
from ils_lightning.estimators.coupling import DRAWS, check_coupling, followed

SAME = 1e-3
"""Two answers of f are the same when they differ by less than this share of their size: rounding is far below."""
_DRAWS = 3


class Facts(NamedTuple):
    """What the checks found out: whether f has a gradient in z, and the sizes of the problem."""

    differentiable: bool
    latents: int
    categories: int
    rows: int
    ones: int = 1

    @property
    def choices(self) -> int:
        """Number of states of one latent: its categories, or their subsets of `ones`."""
        return comb(self.categories, self.ones)

    @property
    def states(self) -> int:
        """Number of states of one row."""
        return self.choices**self.latents


def check(logits: Tensor, f: Loss, ones: int = 1) -> Facts:
    """Evaluates f on a few draws, of `ones` categories a latent, and returns what it is.

    Raises:
        ValueError: when logits are not finite where they must be, or f has the wrong shape, draws noise of its own,
            judges rows or draws by each other (see `coupling`), or is not finite.
    """
    check_logits(logits)
    if not 1 <= ones <= logits.shape[-1]:
        raise Refusal(f"ones, the categories drawn for a latent, must be 1 to {logits.shape[-1]}; given {ones}")
    z = followed(logits, ones).draw(_DRAWS).to(logits.dtype)
    with torch.no_grad():
        loss = evaluate(f, z)
        _check_finite(loss)
        check_coupling(partial(evaluate, f), logits, _DRAWS, ones)
        _check_same(
            loss,
            evaluate(f, z),
            "the loss f must answer the same for the same draws, but two evaluations of the same z differ: draw its "
            "noise (dropout, data augmentation, an inner sample) once, outside f, or put the model in evaluation mode",
        )
        _check_same(loss[:1], evaluate(f, z[:1]), DRAWS)
    return Facts(differentiable(f, z[:1]), *logits.shape[-2:], rows=logits.shape[:-2].numel(), ones=ones)


def differentiable(f: Loss, z: Tensor) -> bool:
    """Whether f's answer has a gradient in z."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        loss = evaluate(f, leaf)
        if not loss.requires_grad:
            return False
        return torch.autograd.grad(loss.sum(), leaf, allow_unused=True)[0] is not None


def check_logits(logits: Tensor) -> None:
    """Raises a ValueError where these are no logits, or a latent's are not finite where they must be."""
    if not are_logits(logits) or logits.numel() == 0:
        raise Refusal(
            f"logits must be floating-point and [*batch, latents, categories], none of them 0; given {kind(logits)}"
        )
    top = logits.amax(dim=-1)
    if not torch.isfinite(top).all():
        row = (~torch.isfinite(top)).nonzero()[0].tolist()
        worst = {float("-inf"): "-inf throughout", float("inf"): "+inf"}.get(top[tuple(row)].item(), "NaN")
        raise Refusal(f"every row of logits must have a finite maximum; row {row} [*batch, latent] has {worst}")


def _check_finite(loss: Tensor) -> None:
    if not torch.isfinite(loss).all():
        draw, *row = (~torch.isfinite(loss)).nonzero()[0].tolist()
        raise Refusal(
            f"the loss f must be finite at every draw; it is {loss[(draw, *row)].item()} at a draw of row {row}"
        )


def _check_same(first: Tensor, second: Tensor, rule: str) -> None:
    away = (first - second).abs()
    size = torch.maximum(first.abs(), second.abs())
    if (away > SAME * size + 1e-6).any():
        place = (away - SAME * size).argmax()
        raise Refusal(f"{rule}; given {first.flatten()[place]:.6g} and {second.flatten()[place]:.6g}")
