"""How an estimate reaches the logits: autograd functions whose value is the loss or the draw itself.

Let c `[*batch]` be the upstream gradient of the loss. `Deliver` hands an estimate made before to the logits, times c.
`Draw` and `Note` do it in the same backward pass that serves f's parameters: `Note` sees c at the loss, `Draw` receives
c g at the draw, divides, and so applies the estimator to one example's g = df/dz, however c was scaled.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ils_lightning.estimators import categorical


class Deliver(torch.autograd.Function):
    """The loss; backward hands c to the loss, c * estimate to the logits and sum|c| * gradient to own parameters."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, logits: Tensor, estimate: Tensor, gradients: list, *own: Tensor) -> Tensor:
        ctx.save_for_backward(estimate.masked_fill(logits == float("-inf"), 0).to(logits.dtype))
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, c: Tensor) -> tuple:
        (estimate,) = ctx.saved_tensors
        own = [None if gradient is None else gradient * c.abs().sum() for gradient in ctx.gradients]
        return (c, c[..., None, None].to(estimate.dtype) * estimate, None, None, *own)


class Draw(torch.autograd.Function):
    """An exact draw; backward applies the estimator's pullback to the gradient of one example."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, estimator: Any, upstream: list[Tensor]) -> Tensor:
        pi = categorical.softmax(logits)
        z = estimator.draw(logits, pi)
        ctx.save_for_backward(logits, pi, z)
        ctx.estimator, ctx.upstream = estimator, upstream
        return z.to(logits.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple:
        logits, pi, z = ctx.saved_tensors
        g = g.to(pi.dtype)
        if not ctx.upstream:
            return ctx.estimator.pullback(logits, pi, z, g).to(logits.dtype), None, None
        c = ctx.upstream[-1][..., None, None].to(pi.dtype)
        g = torch.where(c == 0, 0, g / c)
        return (c * ctx.estimator.pullback(logits, pi, z, g)).to(logits.dtype), None, None


class Note(torch.autograd.Function):
    """The identity on the loss; backward notes the upstream gradient c `[*batch]` for the draw to divide by."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, upstream: list[Tensor]) -> Tensor:
        ctx.upstream = upstream
        return loss.view_as(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, c: Tensor) -> tuple:
        ctx.upstream[:] = [c]
        return c, None
