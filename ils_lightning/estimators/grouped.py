"""One estimator for each group of rows that are unlike: time steps, layers, experts (this project).

estimate of rows `[t, *batch]` = that of copy t, which sees and learns of no other rows
"""

import copy
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Estimator, Lesson, Loss
from ils_lightning.estimators.distribution import Distribution
from ils_lightning.estimators.sampler import Pullback


class Grouped(Pullback):
    """Runs a copy of a pathwise estimator for each entry of the first batch axis.

    Logits are `[groups, *batch, latents, categories]`. What is learnt of one group says nothing of another: the
    curvature of time step 3 does not meet that of step 40. Rows of a group are pooled as before. In a recurrent model,
    which draws one step at a time, `grouped[t]` is the copy of step t.

    It takes estimators whose backward is a closed form (`Pullback`: the ILS family, ReinMax, straight-through). Others
    either learn nothing of rows, or, as `Reinforce` with a `MovingAverage`, see the loss of all groups at once: for
    those hold one instance for each group yourself.

    Args:
        estimator: the estimator to copy, not yet used.
        groups: size of the first batch axis.

    Example:
        >>> import torch
        >>> from ils_lightning.estimators import ILSNewton
        >>> logits = torch.zeros(5, 64, 1, 3, requires_grad=True)  # [time, batch, latents, categories]
        >>> estimator = Grouped(ILSNewton(), groups=5)
        >>> estimator(logits, lambda z: z[..., 0].square().sum(-1)).sum().backward()
        >>> estimator[0].S.shape
        torch.Size([1, 3, 3])
    """

    kind = "wrapper"
    equation = r"""
        \hat\nabla^{(t)} &= \text{the estimate of copy } t, \text{ for rows } [t, \ast \text{batch}]
    """

    def __init__(self, estimator: Pullback, groups: int) -> None:
        super().__init__()
        if not isinstance(estimator, Pullback):
            raise Refusal(
                f"Grouped takes estimators whose backward is a closed form, such as ILSNewton; given "
                f"{type(estimator).__name__}"
            )
        self.estimators = nn.ModuleList(copy.deepcopy(estimator) for _ in range(self.whole("groups", groups, 1)))
        for one in self._copies():
            one.counted = None  # as each call leaves it, or torch.compile takes the second call for another
        facts: Any = estimator
        for fact in (
            "unbiased",
            "needs_gradient",
            "hard",
            "pooled",
            "pooled_by_state",
            "binary",
            "source",
            "cost",
            "ones",
        ):
            setattr(self, fact, getattr(facts, fact))

    def __getitem__(self, group: int) -> Any:
        return self.estimators[group]

    def __len__(self) -> int:
        return len(self.estimators)

    @property
    def exact_for(self) -> Literal["none", "linear", "quadratic", "all"]:
        return self[0].exact_for

    @property
    def needs_slopes(self) -> Literal["all", "drawn", "none"]:
        return self[0].needs_slopes

    @property
    def graph_breaks(self) -> str:
        return self[0].graph_breaks

    def distribution(self, logits: Tensor) -> Distribution:
        return self[0].distribution(logits)

    def evaluations(self, latents: int, categories: int) -> int:
        return self[0].evaluations(latents, categories)

    def build(self, latents: int, categories: int) -> None:
        for one in self._copies():
            one.build(latents, categories)

    def check(self, logits: Tensor) -> None:
        """Raises a ValueError where the first batch axis is not that of the groups, or the estimator refuses."""
        if logits.dim() < 3 or len(logits) != len(self):
            raise Refusal(
                f"Grouped needs logits [groups, *batch, latents, categories] with {len(self)} groups (a draw of one "
                f"group, as in a recurrent model, takes one of them: grouped[t]); given {list(logits.shape)}"
            )
        for one, part in zip(self._copies(), logits, strict=True):
            one.check(part)

    def value(self, logits: Tensor, f: Loss) -> Tensor:
        if type(self[0]).value is Estimator.value:
            return super().value(logits, f)
        raise Refusal(f"Grouped: {type(self[0]).__name__} has an objective of its own, which is not asked by groups")

    def draw(self, logits: Tensor, pi: Tensor) -> Tensor:
        return torch.stack([one.draw(*given) for one, *given in zip(self._copies(), logits, pi, strict=True)])

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        groups = enumerate(zip(self._copies(), logits, pi, z, g, strict=True))
        return torch.stack([self._of_group(group, one, *given) for group, (one, *given) in groups])

    def _of_group(self, group: int, one: Pullback, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        """The estimate of one group's copy, which learns and pools of the group's rows that count."""
        one.counted = None if self.counted is None else _part(self.counted, group)
        try:
            with one.deferring() as lessons:
                estimate = one.pullback(logits, pi, z, g)
        finally:
            one.counted = None
        for lesson in lessons:
            self.learn_later(pi, partial(_teach, lesson, group))
        return estimate

    def _copies(self) -> Any:
        return self.estimators


def _part(counted: Tensor, group: int) -> Tensor:
    """Which rows of a group count, of those of all `[groups, *batch]`; a single True is all."""
    return counted[group] if counted.dim() else counted


def _teach(lesson: Lesson, group: int, counted: Tensor) -> None:
    lesson(_part(counted, group))
