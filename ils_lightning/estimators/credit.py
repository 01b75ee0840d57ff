"""Costs that are known later: draw now, hand in the cost when it is there.

    z, credit = estimator.act(logits)           # in a recurrent model, or for each token
    ...                                         # whatever follows from z
    loss = credit(cost).sum()                   # cost-to-go of that draw; backward: (cost - baseline)(z - pi)

Where a program of its own drew (`generate` of a language model), `credit = estimator.credit(logits, drawn)`.

`estimator(logits, f)`, nested over T steps, calls f of a step within that of the step before: `LeaveOneOut(2)` then
draws 2^T paths. With `act` each step draws once for each row.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.categorical import draw_index, log_softmax, one_hot, plain_call, softmax
from ils_lightning.estimators.replacing import drawn, draws_are_replaced

Advantage = Callable[[Tensor, Tensor], Tensor]
"""Maps costs and which of them count, both `[*batch]`, to what the score of each draw is weighed by."""


class Credit:
    """Takes the cost of draws made before, and gives their logits the score-function gradient.

    Args:
        logits: of the draws `[*batch, latents, categories]`.
        index: drawn categories `[*batch, latents]`.
        advantage: what the scores are weighed by.
        checked: whether costs are looked at, as the values of logits are (`Estimator.validate`).

    Example:
        A step's draw decides the next one's logits, and the cost is known after both.

        >>> import torch
        >>> from ils_lightning.estimators import LeaveOneOut
        >>> first = torch.zeros(8, 5, 1, 3, requires_grad=True)  # [samples, rows, latents, categories]
        >>> table = torch.randn(3, 3, requires_grad=True)
        >>> estimator = LeaveOneOut()
        >>> z, credit_of_first = estimator.act(first)
        >>> z, credit_of_second = estimator.act(z @ table)
        >>> cost = z[..., 0, 0]
        >>> (credit_of_first(cost) + credit_of_second(cost)).sum().backward()
        >>> first.grad.shape, table.grad.shape
        (torch.Size([8, 5, 1, 3]), torch.Size([3, 3]))
    """

    def __init__(self, logits: Tensor, index: Tensor, advantage: Advantage, checked: bool = False) -> None:
        self._logits, self._index, self._advantage = logits, index.unsqueeze(-1), advantage
        self._checked = checked
        self._there: Tensor | None = None

    def among(self, there: Tensor) -> "Credit":
        """The same, rows outside `there` `[*batch]` being masked in every call."""
        self._there = there
        return self

    def __call__(self, cost: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the cost `[*batch]`, zero where masked; backward hands each row's logits its share.

        Args:
            cost: of each row's draw `[*batch]`, from there on: the cost-to-go. Its own graph stays; counts, such as
                numbers of errors, are taken as floating-point numbers.
            mask: which rows count `[*batch]`; others (padding, sequences that have ended) get no gradient and are in
                no baseline.

        Raises:
            ValueError: when the shapes are not those of the draw's rows, or the cost of a row that counts is not
                finite: that is looked at where the values of logits are, by default on a CPU alone.
        """
        given = self._logits.shape[:-2]
        if not isinstance(cost, Tensor):
            raise Refusal(f"credit takes a tensor of costs, [*batch] = {list(given)}; given {type(cost).__name__}")
        there = torch.ones(given, dtype=torch.bool, device=cost.device) if mask is None else mask.bool()
        there = there if self._there is None or there.shape != given else there & self._there
        if cost.shape != given or there.shape != given:
            raise Refusal(
                f"credit takes one cost, and one mask, a row of the draw: [*batch] = {list(given)}; given "
                f"{list(cost.shape)} and {list(there.shape)}"
            )
        counted = torch.where(there, cost if cost.is_floating_point() else cost.to(self._logits.dtype), 0)
        if self._checked and plain_call() and not torch.isfinite(counted.detach()).all():
            row = (~torch.isfinite(counted.detach())).nonzero()[0].tolist()
            raise Refusal(
                f"credit takes finite costs, of which it makes gradients; row {row} has {counted[tuple(row)].item()} "
                "(rows that are not to count are left out by credit(cost, mask))"
            )
        # what padding holds, NaN perhaps, is taken out before anything is made of it
        log_pi = log_softmax(torch.where(there[..., None, None], self._logits, 0))
        log_prob = log_pi.gather(-1, self._drawn(log_pi, there)).sum(dim=(-2, -1))
        advantage = torch.where(there, self._advantage(counted.detach().to(log_prob.dtype), there), 0)
        tie = advantage * (log_prob - log_prob.detach())
        return counted + tie.to(counted.dtype)

    def _drawn(self, log_pi: Tensor, there: Tensor) -> Tensor:
        """The drawn categories `[*batch, latents, 1]`."""
        del log_pi, there
        return self._index


class CreditOfGiven(Credit):
    """The same for draws that were made elsewhere, whose categories may be wrong; masked rows hold any."""

    def _drawn(self, log_pi: Tensor, there: Tensor) -> Tensor:
        index = torch.where(there[..., None, None], self._index, 0)
        if not (self._checked and plain_call()):
            return index
        known = (index >= 0) & (index < log_pi.shape[-1])
        if not known.all():
            raise Refusal(
                f"credit: drawn categories lie in 0 .. {log_pi.shape[-1] - 1}; given {int(index[~known][0])} in a row "
                "that counts (padding is left out by credit(cost, mask))"
            )
        if (log_pi.detach().gather(-1, index) == float("-inf")).squeeze(-1)[there].any():
            raise Refusal("credit: a drawn category is masked by -inf, so that it was not drawn from these logits")
        return index


class CostsLater:
    """What score functions have beside `estimate`: draws whose cost comes later; they say what it is compared with."""

    def later(self, logits: Tensor) -> Advantage:
        """Returns what scores of draws from logits `[*batch, latents, categories]` are weighed by."""
        raise NotImplementedError(f"{type(self).__name__} must define later(logits)")

    def act(self: Any, logits: Tensor) -> tuple[Tensor, Credit]:
        """Draws z `[*batch, latents, categories]` once for each row, for a cost that comes later; see `Credit`.

        Where draws are compared, the first batch axis is the group, `[samples, *rows, latents, categories]`: several
        answers to one prompt, or several paths from one state. The option `samples` is not used.
        """
        self.check(logits)
        if draws_are_replaced():  # a draw that is measured learns nothing
            z = drawn(self, logits)
            return z, Credit(logits, z.detach().argmax(dim=-1), nothing)
        pi = softmax(logits.detach())
        index = draw_index(pi)
        z = one_hot(index, pi).to(logits.dtype)
        return z, Credit(logits, index, self.later(logits), self.validates(logits))

    def credit(self: Any, logits: Tensor, index: Tensor) -> Credit:
        """Returns what takes the cost of draws that were made elsewhere, from these logits; axes as for `act`.

        Args:
            logits: that the draws were made from `[*batch, latents, categories]`, after a temperature and with -inf
                where categories were cut. Where another policy made them, such as this one before some steps, the
                gradient is biased: no ratio corrects for it.
            index: drawn categories `[*batch, latents]`, whole numbers. Rows that the credit masks may hold any number.

        Raises:
            ValueError: when `index` has another shape or type, or draws are being measured, which changes them; from
                the credit, when a row that counts has a category that is none or is masked by -inf.

        Example:
            >>> import torch
            >>> from ils_lightning.estimators import LeaveOneOut
            >>> logits = torch.zeros(4, 2, 1, 3, requires_grad=True)  # [answers, prompts, latents, words]
            >>> words = torch.tensor([[[0], [1]], [[2], [1]], [[0], [0]], [[1], [2]]])
            >>> credit = LeaveOneOut().credit(logits, words)
            >>> credit((words != 0).float().squeeze(-1)).sum().backward()
        """
        self.check(logits)
        if draws_are_replaced():
            raise Refusal(
                f"{type(self).__name__}: draws that were made elsewhere cannot be measured, for what followed from "
                "them stays as it was; draw by act(logits)"
            )
        whole = isinstance(index, Tensor) and not (index.is_floating_point() or index.dtype == torch.bool)
        if not whole or index.shape != logits.shape[:-1]:
            given = f"{index.dtype} {list(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
            raise Refusal(
                f"{type(self).__name__}: drawn categories are a tensor of whole numbers, [*batch, latents] = "
                f"{list(logits.shape[:-1])}; given {given}"
            )
        return CreditOfGiven(logits, index.long(), self.later(logits), self.validates(logits))


def nothing(cost: Tensor, mask: Tensor) -> Tensor:
    """The advantage of what was not drawn to be learnt from."""
    del mask
    return torch.zeros_like(cost)


def mean_of_group(cost: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the first batch axis of the costs that count, and their number, both `[1, *rest]`.

    Raises:
        ValueError: when there is no such axis, or only one row along it.
    """
    if cost.dim() < 1 or len(cost) < 2:
        raise Refusal(
            "a group's baseline compares draws along the first batch axis, [samples, *rows, latents, categories], at "
            f"least 2; given [*batch] = {list(cost.shape)}"
        )
    number = mask.sum(dim=0, keepdim=True).to(cost.dtype)
    return cost.sum(dim=0, keepdim=True) / number.clamp(min=1), number
