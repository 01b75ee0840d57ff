"""Calling a loss f, and asking it for slopes: what every estimator does with f, and what it demands of the answer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from ils_lightning.errors import Refusal
from ils_lightning.estimators.categorical import kind, plain_call, transformed

DIFFERENTIATES = "differentiates the loss by itself"
LEARNS = "learns from its draws until .eval() is called"
Loss = Callable[[Tensor], Tensor]
"""Maps draws `[samples, *batch, latents, categories]` to the loss of each, `[samples, *batch]`.

It may know two things in closed form, by methods of its own: `closed_form_gradient(z)`, its slopes at draws z; and
`expectation(pi)`, its mean `[*batch]` over independent draws of the probabilities pi `[*batch, latents, categories]`,
differentiable in pi. `Exact` and `diagnose` then need no enumeration.
"""
_FLAT = ("Round", "Floor", "Ceil", "Trunc", "Sign", "Sgn", "Bernoulli")
"""What autograd calls functions whose derivative is zero wherever they have one."""


def evaluate(f: Loss, z: Tensor) -> Tensor:
    """Calls f on draws z `[samples, *batch, latents, categories]`; its answer must be `[samples, *batch]`.

    Raises:
        ValueError: when f cannot be called, or its answer has any other shape or is not floating-point.
    """
    if not callable(f):
        raise Refusal(
            "the loss f must be a function of draws z [samples, *batch, latents, categories], such as "
            f"lambda z: z[..., 0].sum(-1); given {kind(f)}"
        )
    loss = f(z)
    if not isinstance(loss, Tensor) or loss.shape != z.shape[:-2]:
        given = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise Refusal(
            f"the loss f must map z [samples, *batch, latents, categories] = {list(z.shape)} to one value per draw "
            f"and row, [samples, *batch] = {list(z.shape[:-2])}; it returned {given}{_rows_as_latents(z, given)}"
        )
    if not loss.is_floating_point():
        remedy = ".real or .abs()" if loss.is_complex() else ".float()"
        given = str(loss.dtype).removeprefix("torch.")
        raise Refusal(f"the loss f must answer floating-point numbers; given {given} (use {remedy})")
    return loss


def _rows_as_latents(z: Tensor, given: Any) -> str:
    """What is to be done where logits `[rows, categories]`, which are latents of one row here, were meant as rows."""
    if z.dim() != 3 or given != list(z.shape[:2]):
        return ""
    return (
        f". Logits of two axes are one row of {z.shape[1]} latents; for {z.shape[1]} rows of one latent give "
        "logits.unsqueeze(-2), and read z[..., 0, :] in f"
    )


def known_expectation(f: Loss) -> Callable[[Tensor], Tensor] | None:
    """Returns f's own mean over draws, as a function of their probabilities; None where it knows none.

    Raises:
        ValueError: when it is called and its answer is not one value a row.
    """
    known = getattr(f, "expectation", None)
    if known is None:
        return None

    def checked(pi: Tensor) -> Tensor:
        found = known(pi)
        if found.shape != pi.shape[:-2]:
            raise Refusal(
                f"the loss's expectation(pi) must answer one value a row, [*batch] = {list(pi.shape[:-2])}; "
                f"it returned {list(found.shape)}"
            )
        return found

    return checked


def no_gradient(name: str) -> Refusal:
    """What the estimator called `name` says of a loss whose answer does not depend on z differentiably."""
    return Refusal(
        f"{name} needs a loss f that is differentiable in z; the answer given has no gradient in z, as after argmax, "
        "round, detach or no_grad: z @ table looks up what table[z.argmax(-1)] does (LeaveOneOut needs none)"
    )


def refuse_transforms(name: str, reason: str) -> None:
    """Raises a ValueError inside transforms of torch.func, for the estimator called `name`."""
    if transformed():
        raise Refusal(
            f"{name} {reason}, for which torch.func (vmap, grad) has no place: call it outside of them, or use "
            "another estimator inside (ReinMax, StraightThrough and LeaveOneOut serve)"
        )


def depends(loss: Tensor, node: Any) -> bool:
    """Whether autograd leads from a loss to a node of its graph by way of functions that are not flat everywhere."""
    seen, left = set(), [loss.grad_fn]
    while left:
        here = left.pop()
        if here is node:
            return True
        if here is not None and here not in seen and not here.name().startswith(_FLAT):
            seen.add(here)
            left += [following for following, _ in here.next_functions]
    return False


def slopes(name: str, value: Tensor, *points: Tensor, live: bool = False) -> tuple[Tensor, ...]:
    """Gradients of sum(value) at `points`, with a graph of their own if `live`; the value keeps its graph.

    Raises:
        ValueError: when the value, which `name` needs differentiable, is not.
    """
    refuse_transforms(name, DIFFERENTIATES)
    found: tuple[Tensor | None, ...] = ()
    if value.requires_grad:
        found = torch.autograd.grad(value.sum(), points, create_graph=live, retain_graph=True, allow_unused=True)
    given = tuple(gradient for gradient in found if gradient is not None)
    nodes = [get_gradient_edge(point).node for point in points] if plain_call() else []
    if len(given) < len(points) or not all(depends(value, node) for node in nodes):
        raise no_gradient(name)
    return given


def loss_and_slope(name: str, f: Loss, z: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluates f at draws z `[samples, *batch, latents, categories]` on behalf of the estimator called `name`.

    Returns:
        The loss `[samples, *batch]`, its graph alive, and df/dz, like z and without a graph.

    Raises:
        ValueError: when f's answer has no gradient in z.
    """
    refuse_transforms(name, DIFFERENTIATES)
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        loss = evaluate(f, leaf)
        (g,) = slopes(name, loss, leaf)
    return loss, g
