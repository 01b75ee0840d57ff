"""Estimators that are a draw with a backward pass of its own: any differentiable draw, and an exact one with a formula.

Nothing is evaluated beside the draw: one backward pass through the loss serves f's parameters and the logits.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators import categorical
from ils_lightning.estimators.base import Estimator
from ils_lightning.estimators.delivery import Deliver, Tie, call, draw, no_own
from ils_lightning.estimators.loss import Loss, depends, evaluate, loss_and_slope, no_gradient, slopes


class Sampler(Estimator):
    """An estimator that is a differentiable draw: subclasses write `sample`.

    `sample` serves alone as a drop-in for any draw in a model. It then sees df/dz as it arrives, with whatever scale a
    mean over the batch, gradient accumulation or mixed precision gave it; `forward` works on one example's df/dz. And
    as of any tensor, nobody notices when nothing differentiable is made of it (an index, say); `forward` raises a
    ValueError then, save in a program of torch.compile, where the gradient is zero.
    """

    _abstract = True

    needs_gradient = True
    kind = "pathwise"
    _draws_beside = 1
    _traced = False

    def sample(self, logits: Tensor) -> Tensor:
        """Draws z `[*batch, latents, categories]`; its backward is the estimator."""
        raise NotImplementedError(f"{type(self).__name__} must define sample(logits)")

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            loss = evaluate(f, self.sample(leaf).unsqueeze(0)).squeeze(0)
            (estimate,) = slopes(type(self).__name__, loss, leaf)
        return loss, estimate

    def forward(self, logits: Tensor, f: Loss) -> Tensor:
        """Returns the loss `[*batch]`; one backward pass serves f's parameters and the logits."""
        if hasattr(f, "closed_form_gradient"):
            return super().forward(logits, f)
        self.check(logits)
        if not torch.is_grad_enabled():
            return self.value(logits, f)
        self._check_coupling(logits, f)
        if not logits.requires_grad:
            return evaluate(f, self.sample(logits).unsqueeze(0)).squeeze(0)
        theta, tie = call(Tie, logits, type(self).__name__)
        return self._tied(f, self.sample(theta), tie)

    def _tied(self, f: Loss, z: Tensor, tie: Tensor) -> Tensor:
        """The loss at z, and in it the tie by which backward learns of its use.

        The first loss of each instance is traced back to z, a later one must have a gradient in z when backward comes.
        """
        first = categorical.plain_call() and not self._traced
        node = z.grad_fn if first else None  # before f may write into z; the compiler does not know it
        loss = evaluate(f, z.unsqueeze(0)).squeeze(0)
        if not loss.requires_grad or (first and not depends(loss, node)):
            raise no_gradient(type(self).__name__)
        if first:  # a program that writes it would be made anew for the next step
            self._traced = True
        return loss + tie.to(loss.dtype)


class Pullback(Sampler):
    """A sampler whose draw is exact and whose backward is a closed form: subclasses write `pullback`.

    `rearranged` may state the same formula in fewer passes over memory; a subclass that writes `pullback` alone does
    not inherit it.
    """

    _abstract = True

    closed_form = True
    noise: Callable[[tuple[int, ...], torch.device], Tensor] | None = None
    """Draws the uniform numbers that one-hot draws are inverted from, while a wrapper sets it; None is independent."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "pullback" in vars(cls) and "rearranged" not in vars(cls):
            cls.rearranged = Pullback.rearranged

    def draw(self, logits: Tensor, pi: Tensor) -> Tensor:
        """Draws z `[*batch, latents, categories]`, in the dtype of `pi`: one-hot from `pi` unless overridden."""
        del logits
        return categorical.draw(pi)

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        """Maps one example's g = df/dz at the draw to the estimate; all `[*batch, latents, categories]`."""
        raise NotImplementedError(f"{type(self).__name__} must define pullback(logits, pi, z, g)")

    def rearranged(self, logits: Tensor, pi: Tensor, index: Tensor, g: Tensor) -> Tensor:
        """The same for a one-hot draw, given by its drawn categories `[*batch, latents]`.

        `pi` may be laid out as `categorical.probabilities` likes it while g is not: `categorical.beside` tells how.
        """
        return self.pullback(logits, pi, categorical.one_hot(index, pi), categorical.beside(pi, g))

    def drawn(self, logits: Tensor, pi: Tensor) -> tuple[Tensor, Tensor]:
        """Returns a draw, and what backward needs to know of it: the drawn categories, or z if it has others too."""
        if type(self).draw is not Pullback.draw:
            z = self.draw(logits, pi)
            return z, z.detach().clone()  # f may write into z
        u = (self.noise or categorical.uniform)(pi.shape[:-1], pi.device)
        index = categorical.index_at(pi, u)
        return categorical.one_hot(index, pi), index

    def at_draw(self, logits: Tensor, pi: Tensor, drawn: Tensor, g: Tensor) -> Tensor:
        """The estimate at a draw as `drawn` describes it."""
        if drawn.is_floating_point():
            return self.pullback(logits, pi, drawn, g)
        if categorical.transformed():  # which has no place for the memory that fewer passes write into
            return self.pullback(logits, pi, categorical.one_hot(drawn, pi), g)
        return self.rearranged(logits, pi, drawn, g)

    def among(self, counted: Tensor | None, logits: Tensor, pi: Tensor, drawn: Tensor, g: Tensor) -> Tensor:
        """The same where rows that are not `counted` `[*batch]` are no part of the batch; None counts all."""
        if counted is None:
            return self.at_draw(logits, pi, drawn, g)
        self.counted = counted
        try:
            return self.at_draw(logits, pi, drawn, g)
        finally:
            self.counted = None

    def sample(self, logits: Tensor) -> Tensor:
        self._check_rows(logits)
        return draw(logits, self, tied=False)[0]

    def _check_rows(self, logits: Tensor) -> None:
        """Refuses a draw that is meant to train and has no rows to pool; with a loss, its shape says what is a row."""
        if self.pooled and self.training and logits.dim() == 2 and torch.is_grad_enabled() and categorical.plain_call():
            given = list(logits.shape)
            raise Refusal(
                f"{type(self).__name__} pools rows, so that while it trains it draws from logits [rows, latents, "
                f"categories]; given {given}. If these are {given[0]} rows of one latent, hand over "
                "logits.unsqueeze(-2) and take z.squeeze(-2); if one row, logits.unsqueeze(0)"
            )

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = categorical.probabilities(logits.detach())
        z, drawn = self.drawn(logits.detach(), pi)
        loss, g = self._loss_and_gradient(f, z.to(logits.dtype))
        estimate = self.at_draw(logits.detach(), pi, drawn, g.to(pi.dtype))
        return loss, estimate.to(logits.dtype).contiguous()

    def _loss_and_gradient(self, f: Loss, z: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluates f and g = df/dz, by f's own closed form `f.closed_form_gradient` where it has one."""
        gradient = getattr(f, "closed_form_gradient", None)
        if gradient is not None:
            g = gradient(z)  # before f may write into z
            return evaluate(f, z.unsqueeze(0)).squeeze(0), g
        loss, g = loss_and_slope(type(self).__name__, f, z.unsqueeze(0))
        return loss.squeeze(0), g.squeeze(0)

    def forward(self, logits: Tensor, f: Loss) -> Tensor:
        """Returns the loss `[*batch]`; one backward pass serves f's parameters and the logits."""
        known = hasattr(f, "closed_form_gradient")
        if known and not self.pooled:
            return Estimator.forward(self, logits, f)
        self.check(logits)
        if not torch.is_grad_enabled():
            return self.value(logits, f)
        self._check_coupling(logits, f)
        if known:
            return self._at_known_slope(logits, f)
        z, tie = draw(logits, self, tied=True)
        if tie is None or not logits.requires_grad:
            return evaluate(f, z.unsqueeze(0)).squeeze(0)
        return self._tied(f, z, tie)

    def _at_known_slope(self, logits: Tensor, f: Loss) -> Tensor:
        """The same where f states its own slope, for those that ask which rows backward comes from."""
        z, tie = draw(logits, self, tied=True)
        loss, g = self._loss_and_gradient(f, z.detach())
        if tie is None:
            return loss
        return call(Deliver, loss, z, g.detach(), type(self).__name__, no_own) + tie.to(loss.dtype)
