"""What the control variates of relaxed draws share: points at which f trains nothing, and REBAR's formula."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ils_lightning.estimators.base import per_row
from ils_lightning.estimators.categorical import conditional_gumbel, draw, softmax
from ils_lightning.estimators.delivery import call
from ils_lightning.estimators.loss import DIFFERENTIATES, Loss, evaluate, refuse_transforms, slopes


class OfRows(torch.autograd.Function):
    """A parameter as one value for each row, `[*batch, 1, 1]`: rows whose gradient is not finite teach it nothing."""

    generate_vmap_rule = True

    @staticmethod
    def forward(parameter: Tensor, shape: tuple[int, ...]) -> Tensor:
        return parameter.expand(shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        return torch.where(torch.isfinite(g), g, 0).sum_to_size(ctx.shape), None


def of_rows(parameter: Tensor, logits: Tensor) -> Tensor:
    """A learnt option, a number or one value for each leading batch entry, as `[*batch, 1, 1]` (see `OfRows`)."""
    return call(OfRows, per_row(parameter, logits), (*logits.shape[:-2], 1, 1))


Control = Callable[[Tensor], Tensor]


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
    refuse_transforms(name, DIFFERENTIATES)
    pi = softmax(logits.detach())
    z = draw(pi, samples)
    score = z - pi
    with torch.enable_grad():
        theta = logits.detach().to(pi.dtype).expand_as(z).requires_grad_()
        zt = conditional_gumbel(theta, z)
        zr = zt.detach().requires_grad_()
    loss = evaluate(f, z.to(logits.dtype))
    with torch.enable_grad():
        c = control(zr)
        (pathwise,) = slopes(name, c, zr, live=live)
        (conditional,) = torch.autograd.grad(zt, theta, pathwise, create_graph=live)
        advantage = loss.detach()[..., None, None] - eta * c[..., None, None]
        estimate = advantage * score + eta * (pathwise - conditional)
    return loss.mean(dim=0), (estimate if live else estimate.detach()).mean(dim=0).to(logits.dtype)
