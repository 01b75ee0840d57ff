"""How an estimate reaches the logits: autograd functions whose value is the loss or the draw itself.

Let c `[*batch]` be the upstream gradient of the loss. `Deliver` hands an estimate made before to the logits, times c.
`Draw` does it in the same backward pass that serves f's parameters. Beside the draw it returns a zero for each row, to
be added to the loss: the tie by which c comes back. So it receives c g at the draw and c, divides, and applies the
estimator to one example's g = df/dz, however c was scaled. `Tie` is the tie alone, for graphs that autograd follows.

A row with c = 0 is not used: whatever its loss is, NaN too, its logits get zeros. Without a tie the rows that are not
used are those with g = 0; what is pooled leaves out either. A loss that is used although its draw
got no gradient g is an error. A gradient of a gradient is one too, for an estimate is no function of the logits.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators import categorical, one_layer
from ils_lightning.estimators.compiling import outside
from ils_lightning.estimators.loss import LEARNS, no_gradient, refuse_transforms

Own = Callable[[Tensor], Sequence[Tensor | None]]
"""Maps c to the gradients of an estimator's own parameters."""


def call(function: Any, *inputs: Any) -> Any:
    """Applies a function that torch.func can transform; outside its transforms as one it cannot, at half the cost."""
    if categorical.plain_call():
        return _plain(function).apply(*inputs)
    refuse_forward_mode()
    return function.apply(*inputs)


@cache
def _plain(function: Any) -> Any:
    def forward(ctx: Any, *inputs: Any) -> Any:
        output = function.forward(*inputs)
        function.setup_context(ctx, inputs, output)
        return output

    parts = {"forward": staticmethod(forward), "backward": staticmethod(function.backward)}
    return type(function.__name__, (BackwardOnly,), parts)


class BackwardOnly(torch.autograd.Function):
    """A function that has no derivative but what its backward pass delivers, to one upstream gradient at a time.

    What torch.compile traces is none: it takes no function that has a `jvp`.
    """

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise _no_forward_mode()


def refuse_forward_mode() -> None:
    """Raises a ValueError inside jvp and jacfwd of torch.func."""
    if torch.compiler.is_compiling():
        return
    levels = torch._C._functorch.get_interpreter_stack() or []  # pyright: ignore[reportAttributeAccessIssue]
    if any(level.key().name == "Jvp" for level in levels):
        raise _no_forward_mode()


def _no_forward_mode() -> Refusal:
    return Refusal(
        "an estimate is delivered by a backward pass and has no forward mode (jvp, jacfwd, dual numbers): use "
        "backward(), or grad, vjp and jacrev of torch.func"
    )


def one_at_a_time(gradient: Tensor | None) -> None:
    """Raises a ValueError where torch hands several upstream gradients over in one."""
    if gradient is None or torch.compiler.is_compiling():
        return
    if torch._C._functorch.is_legacy_batchedtensor(gradient):  # pyright: ignore[reportAttributeAccessIssue]
        raise Refusal(
            "an estimate serves one upstream gradient a backward pass, not several at a time (is_grads_batched, "
            "jacobian(vectorize=True)): use one pass for each, or jacrev of torch.func"
        )


class Deliver(torch.autograd.Function):
    """The loss; backward hands c to the loss, c * estimate to the logits and `own_gradients(c)` to own parameters."""

    generate_vmap_rule = True

    @staticmethod
    def forward(loss: Tensor, logits: Tensor, estimate: Tensor, name: str, own_gradients: Own, *own: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, logits, estimate, ctx.name, ctx.own_gradients, *_ = inputs
        ctx.save_for_backward(logits, estimate)

    @staticmethod
    def backward(ctx: Any, c: Tensor) -> tuple:
        one_at_a_time(c)
        logits, estimate = ctx.saved_tensors
        with torch.no_grad():
            gradient = c[..., None, None].to(logits.dtype) * estimate.to(logits.dtype)
            gradient = _without_unused(gradient, c).masked_fill_(logits == float("-inf"), 0)
            own = ctx.own_gradients(c)
        c, gradient, *own = once(ctx.name, logits, c, gradient, *own)
        return (c, gradient, None, None, None, *own)


def deliver(loss: Tensor, logits: Tensor, estimate: Tensor, name: str, own_gradients: Own, *own: Tensor) -> Tensor:
    """The loss, by `Deliver`; where backward teaches something, outside of the graphs of torch.compile."""
    given = loss, logits, estimate, name, own_gradients, *own
    return call(Deliver, *given) if own_gradients is no_own else outside(call, Deliver, *given)


def no_own(c: Tensor) -> Sequence[Tensor | None]:
    """The gradients of an estimator that has no parameters."""
    del c
    return ()


class Tie(torch.autograd.Function):
    """x `[*batch, latents, categories]` and a zero for each row; an error when the loss is used and x is not."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, name: str) -> tuple[Tensor, Tensor]:
        return x.view_as(x), x.new_zeros(x.shape[:-2])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.name = inputs[1]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, c: Tensor | None) -> tuple:
        one_at_a_time(c)
        if c is None:
            return g, None
        if g is None:
            raise no_gradient(ctx.name)
        return _without_unused(g, c), None


def draw(logits: Tensor, estimator: Any, tied: bool) -> tuple[Tensor, Tensor | None]:
    """An exact draw z whose backward is the estimator's, and the rows' tie where asked for.

    A function that torch.func can transform takes twice the calls of one it cannot, so only its transforms get one.
    """
    if categorical.plain_call():
        call = one_layer.begun(estimator, logits) if estimator._watches(logits) else None
        return Draw.apply(logits, estimator, tied, call)
    refuse_forward_mode()
    if estimator.pooled and torch.compiler.is_compiling():
        return outside(draw, logits, estimator, tied)
    z, tie, *_ = TransformableDraw.apply(logits, estimator, tied)
    return z, tie if tied else None


class Draw(BackwardOnly):
    """An exact draw z and its tie, a zero for each row; backward applies the estimator to one example's gradient."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, estimator: Any, tied: bool, call: one_layer.Call | None
    ) -> tuple[Tensor, Tensor | None]:
        ctx.call = call
        pi = categorical.probabilities(logits)
        z, drawn = estimator.drawn(logits, pi)
        _keep(ctx, logits, pi, drawn, estimator)
        return z.to(logits.dtype), logits.new_zeros(logits.shape[:-2]) if tied else None

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, c: Tensor | None) -> tuple:
        if ctx.call is not None:
            ctx.call.over()
        return _delivered(ctx, g, c), None, None, None


class TransformableDraw(torch.autograd.Function):
    """The same for torch.func and torch.compile, to which what is saved must be an output."""

    @staticmethod
    def forward(logits: Tensor, estimator: Any, tied: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pi = categorical.probabilities(logits)
        z, drawn = estimator.drawn(logits, pi)
        return z.to(logits.dtype), logits.new_zeros(logits.shape[:-2]), pi, drawn

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        logits, estimator, ctx.tied = inputs
        _, _, pi, drawn = output
        ctx.mark_non_differentiable(pi, drawn)
        _keep(ctx, logits, pi, drawn, estimator)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, c: Tensor | None, *_: None) -> tuple:
        # compiled programs hand zeros, not None, to a tie that nobody uses
        return _delivered(ctx, g, c if ctx.tied else None), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, logits: Tensor, estimator: Any, tied: bool) -> tuple:
        """One more batch axis, beside the latents: options that hold one value a row keep theirs in front."""
        if info.randomness == "error":
            raise Refusal("draws under vmap need randomness='different', or 'same' for the same noise in all of them")
        function = TransformableDraw if info.randomness == "different" else SameDraw
        z, tie, pi, drawn = function.apply(logits.movedim(in_dims[0], -3), estimator, tied)
        last = drawn.dim() - (2 if drawn.dtype == torch.int64 else 3)
        return (z, tie, pi, drawn), (z.dim() - 3, tie.dim() - 1, pi.dim() - 3, last)


class SameDraw(TransformableDraw):
    """The same for logits `[*batch, many, latents, categories]` whose draws all have one noise."""

    @staticmethod
    def forward(logits: Tensor, estimator: Any, tied: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pi = categorical.probabilities(logits)
        z, drawn = torch.vmap(estimator.drawn, in_dims=-3, randomness="same")(logits, pi)
        drawn = drawn.movedim(0, -2 if drawn.dtype == torch.int64 else -3)
        return z.movedim(0, -3).to(logits.dtype), logits.new_zeros(logits.shape[:-2]), pi, drawn

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *_: Any) -> tuple:
        del info, in_dims
        raise Refusal("draws under a vmap within a vmap need randomness='different' in the inner one")


def _keep(ctx: Any, logits: Tensor, pi: Tensor, drawn: Tensor, estimator: Any) -> None:
    """Saves what backward needs."""
    ctx.estimator = estimator
    ctx.save_for_backward(logits, pi, drawn)
    ctx.set_materialize_grads(False)


def _delivered(ctx: Any, g: Tensor | None, c: Tensor | None) -> Tensor | None:
    """The logits' gradient for g = dL/dz and the upstream gradient c of the tie, where there is one."""
    name = type(ctx.estimator).__name__
    if g is None:
        if c is not None:
            raise no_gradient(name)
        return None
    one_at_a_time(g)
    if ctx.estimator.training and ctx.estimator.pooled_by_state:
        refuse_transforms(name, LEARNS)
    logits, pi, drawn = ctx.saved_tensors
    with torch.no_grad():
        if c is None:
            counted = _with_slope(g) if ctx.estimator.pooled else None
            estimate = ctx.estimator.among(counted, logits, pi, drawn, g.to(pi.dtype))
            if counted is not None:
                estimate = torch.where(counted[..., None, None], estimate, 0)
        else:
            counted = c != 0 if ctx.estimator.pooled else None
            if counted is not None and categorical.readable(c) and counted.all():
                counted = None
            c = c[..., None, None].to(pi.dtype)
            g = torch.where(c == 0, 0, categorical.beside(pi, g) / c)
            estimate = c * ctx.estimator.among(counted, logits, pi, drawn, g)
        estimate = estimate.to(logits.dtype).contiguous()
    return once(name, logits, estimate)[0]


def _with_slope(g: Tensor) -> Tensor | None:
    """The rows `[*batch]` whose g is not 0, None where all are, which one number a row mostly tells."""
    if categorical.readable(g) and (g[..., 0, 0] != 0).all():
        return None
    return (g != 0).flatten(-2).any(dim=-1)


def _without_unused(gradient: Tensor, c: Tensor) -> Tensor:
    """Zeros in the rows whose upstream gradient c is 0, in one more pass only where there are such rows."""
    unused = c == 0
    if categorical.readable(c) and not unused.any():
        return gradient
    return gradient.masked_fill(unused[..., None, None], 0)


def once(name: str, logits: Tensor, *gradients: Tensor | None) -> tuple:
    """The gradients as they are; where they are to be differentiated again (`create_graph`), doing so is an error."""
    if not torch.is_grad_enabled():
        return gradients
    return tuple(None if x is None else call(Once, x, logits, name) for x in gradients)


class Once(torch.autograd.Function):
    """A gradient that depends on the logits in a way that backward does not know."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, logits: Tensor, name: str) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.name = inputs[2]

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple:
        raise Refusal(
            f"{ctx.name} delivers an estimate of the gradient, which cannot be differentiated again: take second "
            "derivatives (create_graph=True) of Exact, whose gradient is one of a function"
        )
