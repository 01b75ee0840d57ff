"""What the control variates of relaxed draws share: slopes of f at points that train nothing, and REBAR's formula."""

from collections.abc import Callable

import torch
from torch import Tensor

from ils_lightning.estimators.base import Loss, evaluate
from ils_lightning.estimators.categorical import conditional_gumbel, draw, softmax

Control = Callable[[Tensor], Tensor]


def slopes(name: str, value: Tensor, *points: Tensor, live: bool = False) -> tuple[Tensor, ...]:
    """Gradients of sum(value) at `points`, with a graph of their own if `live`; the value keeps its graph.

    Raises:
        ValueError: when the value, which `name` needs differentiable, is not.
    """
    found: tuple[Tensor | None, ...] = ()
    if value.requires_grad:
        found = torch.autograd.grad(value.sum(), points, create_graph=live, retain_graph=True, allow_unused=True)
    given = tuple(gradient for gradient in found if gradient is not None)
    if len(given) < len(points):
        raise ValueError(
            f"{name} needs a loss f that is differentiable in z; the answer given has no gradient "
            "(LeaveOneOut and Reinforce do without)"
        )
    return given


def relax(perturbed: Tensor, temperature: float | Tensor) -> Tensor:
    """softmax(perturbed / temperature), differentiable in both and exactly zero where `perturbed` is -inf."""
    masked = perturbed == float("-inf")
    return softmax((perturbed.masked_fill(masked, 0) / temperature).masked_fill(masked, float("-inf")))


def controlled(
    name: str, logits: Tensor, f: Loss, control: Control, eta: float | Tensor, samples: int, live: bool
) -> tuple[Tensor, Tensor]:
    """Loss and estimate of REINFORCE with a control variate c of relaxed draws (formula: `rebar`).

    z comes first and zt given z, which is the law of Gumbel-max read backwards, with draws exact at any size. zr is the
    same point, of which the derivative is the identity.

    Args:
        name: the estimator's, for the error message.
        logits: theta `[*batch, latents, categories]`.
        f: the loss.
        control: c, of perturbed logits `[samples, *batch, latents, categories]`, to `[samples, *batch]`.
        eta: weight of the control variate, broadcastable to the logits.
        samples: draws a row.
        live: the estimate keeps a graph to the parameters of `control` and to `eta`.
    """
    pi = softmax(logits.detach())
    z = draw(pi, samples)
    loss = evaluate(f, z.to(logits.dtype))
    with torch.enable_grad():
        theta = logits.detach().to(pi.dtype).expand_as(z).requires_grad_()
        zt = conditional_gumbel(theta, z)
        zr = zt.detach().requires_grad_()
        c = control(zr)
        (pathwise,) = slopes(name, c, zr, live=live)
        (conditional,) = torch.autograd.grad(zt, theta, pathwise, create_graph=live)
        advantage = loss.detach()[..., None, None] - eta * c[..., None, None]
        estimate = advantage * (z - pi) + eta * (pathwise - conditional)
    return loss.mean(dim=0), (estimate if live else estimate.detach()).mean(dim=0).to(logits.dtype)
