"""Costs that are known later: draw now, hand in the cost when it is there.

    z, credit = estimator.act(logits)           # in a recurrent model, or for each token
    ...                                         # whatever follows from z
    loss = credit(cost).sum()                   # cost-to-go of that draw; backward: (cost - baseline)(z - pi)

`estimator(logits, f)`, nested over T steps, calls f of a step within that of the step before: `LeaveOneOut(2)` then
draws 2^T paths. With `act` each step draws once for each row.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.categorical import draw_index, log_softmax, one_hot, softmax

Advantage = Callable[[Tensor, Tensor], Tensor]
"""Maps costs and which of them count, both `[*batch]`, to what the score of each draw is weighed by."""


class Credit:
    """Takes the cost of draws made before, and gives their logits the score-function gradient.

    Args:
        logits: of the draws `[*batch, latents, categories]`.
        index: drawn categories `[*batch, latents]`.
        advantage: what the scores are weighed by.

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

    def __init__(self, logits: Tensor, index: Tensor, advantage: Advantage) -> None:
        self._log_prob = log_softmax(logits).gather(-1, index.unsqueeze(-1)).sum(dim=(-2, -1))
        self._advantage = advantage
        self._there: Tensor | None = None

    def among(self, there: Tensor) -> "Credit":
        """The same, rows outside `there` `[*batch]` being masked in every call."""
        self._there = there
        return self

    def __call__(self, cost: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the cost `[*batch]`, zero where masked; backward hands each row's logits its share.

        Args:
            cost: of each row's draw `[*batch]`, from there on: the cost-to-go. Its own graph stays.
            mask: which rows count `[*batch]`; others (padding, sequences that have ended) get no gradient and are in
                no baseline.

        Raises:
            ValueError: when the shapes are not those of the draw's rows.
        """
        given = self._log_prob.shape
        there = torch.ones_like(self._log_prob, dtype=torch.bool) if mask is None else mask.bool()
        there = there if self._there is None or there.shape != given else there & self._there
        if cost.shape != given or there.shape != given:
            raise Refusal(
                f"credit takes one cost, and one mask, a row of the draw: [*batch] = {list(given)}; given "
                f"{list(cost.shape)} and {list(there.shape)}"
            )
        counted = torch.where(there, cost, 0)
        advantage = torch.where(there, self._advantage(counted.detach().to(self._log_prob.dtype), there), 0)
        tie = advantage * (self._log_prob - self._log_prob.detach())
        return counted + tie.to(cost.dtype)


def act(logits: Tensor, advantage: Advantage) -> tuple[Tensor, Credit]:
    """Draws once for each row `[*batch, latents, categories]`; see `Credit`."""
    pi = softmax(logits.detach())
    index = draw_index(pi)
    return one_hot(index, pi).to(logits.dtype), Credit(logits, index, advantage)


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
