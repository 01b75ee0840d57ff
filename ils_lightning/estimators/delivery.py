"""How an estimate reaches the logits: autograd functions whose value is the loss or the draw itself.

Let c `[*batch]` be the upstream gradient of the loss. `Deliver` hands an estimate made before to the logits, times c.
`Draw` does it in the same backward pass that serves f's parameters. Beside the draw it returns a zero for each row, to
be added to the loss: the tie by which c comes back. So it receives c g at the draw and c, divides, and applies the
estimator to one example's g = df/dz, however c was scaled.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ils_lightning.estimators import categorical

Own = Callable[[Tensor], Sequence[Tensor | None]]
"""Maps c to the gradients of an estimator's own parameters."""


class Deliver(torch.autograd.Function):
    """The loss; backward hands c to the loss, c * estimate to the logits and `own_gradients(c)` to own parameters."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, logits: Tensor, estimate: Tensor, own_gradients: Own, *own: Tensor) -> Tensor:
        ctx.save_for_backward(estimate.masked_fill(logits == float("-inf"), 0).to(logits.dtype))
        ctx.own_gradients = own_gradients
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, c: Tensor) -> tuple:
        (estimate,) = ctx.saved_tensors
        factor = c[..., None, None].to(estimate.dtype)
        return (c, torch.where(factor == 0, 0, factor * estimate), None, None, *ctx.own_gradients(c))


def no_own(c: Tensor) -> Sequence[Tensor | None]:
    """The gradients of an estimator that has no parameters."""
    del c
    return ()


class Sloped(torch.autograd.Function):
    """A loss of z whose gradient there is known; backward hands c to the loss, and c times that gradient to z."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, z: Tensor, slope: Tensor) -> Tensor:
        del z
        ctx.save_for_backward(slope)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, c: Tensor) -> tuple:
        (slope,) = ctx.saved_tensors
        return c, c[..., None, None].to(slope.dtype) * slope, None


def draw(logits: Tensor, estimator: Any, tied: bool) -> tuple[Tensor, Tensor | None]:
    """An exact draw z whose backward is the estimator's, and the rows' tie where asked for.

    A function that torch.func can transform takes twice the calls of one it cannot, so only its transforms get one.
    """
    if categorical.plain_call():
        return Draw.apply(logits, estimator, tied)
    z, tie, *_ = TransformableDraw.apply(logits, estimator)
    return z, tie if tied else None


class Draw(torch.autograd.Function):
    """An exact draw z and its tie, a zero for each row; backward applies the estimator to one example's gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, estimator: Any, tied: bool) -> tuple[Tensor, Tensor | None]:
        pi = categorical.probabilities(logits)
        z, drawn = estimator.drawn(logits, pi)
        _keep(ctx, logits, pi, drawn, estimator)
        return z.to(logits.dtype), logits.new_zeros(logits.shape[:-2]) if tied else None

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor | None, c: Tensor | None) -> tuple:
        return _delivered(ctx, g, c), None, None


class TransformableDraw(torch.autograd.Function):
    """The same for torch.func and torch.compile, to which what is saved must be an output."""

    @staticmethod
    def forward(logits: Tensor, estimator: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pi = categorical.probabilities(logits)
        z, drawn = estimator.drawn(logits, pi)
        return z.to(logits.dtype), logits.new_zeros(logits.shape[:-2]), pi, drawn

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        logits, estimator = inputs
        _, _, pi, drawn = output
        ctx.mark_non_differentiable(pi, drawn)
        _keep(ctx, logits, pi, drawn, estimator)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor | None, c: Tensor | None, *_: None) -> tuple:
        return _delivered(ctx, g, c), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, logits: Tensor, estimator: Any) -> tuple:
        """One more batch axis, beside the latents: options that hold one value a row keep theirs in front."""
        if info.randomness != "different":
            raise ValueError(f"draws under vmap need randomness='different'; given {info.randomness!r}")
        z, tie, pi, drawn = TransformableDraw.apply(logits.movedim(in_dims[0], -3), estimator)
        last = drawn.dim() - (2 if drawn.dtype == torch.int64 else 3)
        return (z, tie, pi, drawn), (z.dim() - 3, tie.dim() - 1, pi.dim() - 3, last)


def _keep(ctx: Any, logits: Tensor, pi: Tensor, drawn: Tensor, estimator: Any) -> None:
    """Saves what backward needs."""
    ctx.estimator = estimator
    ctx.save_for_backward(logits, pi, drawn)
    ctx.set_materialize_grads(False)


def _delivered(ctx: Any, g: Tensor | None, c: Tensor | None) -> Tensor | None:
    """The logits' gradient for g = dL/dz and the upstream gradient c of the tie, where there is one."""
    if g is None:
        return None
    logits, pi, drawn = ctx.saved_tensors
    if c is None:
        estimate = ctx.estimator.at_draw(logits, pi, drawn, g.to(pi.dtype))
    else:
        counted, c = c != 0, c[..., None, None].to(pi.dtype)
        g = torch.where(c == 0, 0, categorical.beside(pi, g) / c)
        estimate = c * ctx.estimator.among(counted, logits, pi, drawn, g)
    return estimate.to(logits.dtype).contiguous()
