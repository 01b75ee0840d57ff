"""Costs that are known later: draw now, hand in the cost when it is there.

    z, credit = estimator.act(logits)           # in a recurrent model, or for each token
    ...                                         # whatever follows from z
    loss = credit(cost).sum()                   # cost-to-go of that draw; backward: (cost - baseline)(z - pi)

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
        log_prob = log_pi.gather(-1, self._index).sum(dim=(-2, -1))
        advantage = torch.where(there, self._advantage(counted.detach().to(log_prob.dtype), there), 0)
        tie = advantage * (log_prob - log_prob.detach())
        return counted + tie.to(counted.dtype)


def act(estimator: Any, logits: Tensor, advantage: Advantage) -> tuple[Tensor, Credit]:
    """Draws once for each row `[*batch, latents, categories]`; see `Credit`. A draw that is measured learns nothing."""
    if draws_are_replaced():
        z = drawn(estimator, logits)
        return z, Credit(logits, z.detach().argmax(dim=-1), nothing)
    pi = softmax(logits.detach())
    index = draw_index(pi)
    return one_hot(index, pi).to(logits.dtype), Credit(logits, index, advantage, estimator.validates(logits))


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
