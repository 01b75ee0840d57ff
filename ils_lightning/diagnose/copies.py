"""Replicates of a batch as one more batch axis: independent estimates of one problem in a single call."""

import torch
from torch import Tensor

from ils_lightning.estimators import Estimator, Loss, Pullback, evaluate
from ils_lightning.estimators.categorical import softmax


class Copies:
    """The loss of replicates: f for z `[samples, *batch, copies, latents, categories]`.

    Copies are the last batch axis, so that options with one value per leading batch entry keep theirs; f itself sees
    them as more draws.
    """

    def __init__(self, f: Loss) -> None:
        self.f = f
        if hasattr(f, "closed_form_gradient"):
            self.closed_form_gradient = self._gradient

    def __call__(self, z: Tensor) -> Tensor:
        z = z.movedim(-3, 1)
        return evaluate(self.f, z.flatten(0, 1)).unflatten(0, z.shape[:2]).movedim(1, -1)

    def _gradient(self, z: Tensor) -> Tensor:
        gradient = self.f.closed_form_gradient  # pyright: ignore[reportFunctionMemberAccess]
        return gradient(z.movedim(-3, 0)).movedim(0, -3)


def estimate_copies(estimator: Estimator, logits: Tensor, f: Loss, copies: int) -> tuple[Tensor, Tensor]:
    """Returns losses `[copies, *batch]` and estimates `[copies, *batch, latents, categories]` of one call."""
    loss, estimate = estimator.estimate(_repeated(logits, copies), Copies(f))
    return loss.detach().movedim(-1, 0), estimate.detach().movedim(-3, 0)


def pull_back_copies(estimator: Pullback, logits: Tensor, f: Loss, copies: int) -> tuple[Tensor, Tensor]:
    """The same where the pullback pools rows: draws and slopes of f in one call, the pullback of each copy alone."""
    rows = _repeated(logits, copies)
    pi = softmax(rows)
    z = estimator.draw(rows, pi)
    loss, g = estimator._loss_and_gradient(Copies(f), z.to(logits.dtype))
    each = zip(*(x.to(pi.dtype).unbind(dim=-3) for x in (pi, z, g)), strict=True)
    estimates = torch.stack([estimator.pullback(logits, *one) for one in each])
    return loss.detach().movedim(-1, 0), estimates.to(logits.dtype)


def _repeated(logits: Tensor, copies: int) -> Tensor:
    return logits.unsqueeze(-3).expand(*logits.shape[:-2], copies, *logits.shape[-2:])
