"""The mean of independent estimates: any estimator with its variance divided by the number of samples."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.distribution import Distribution


class Average(Estimator):
    """Runs an estimator on copies of every row at once and averages them.

    Args:
        estimator: the estimator to average.
        samples: independent estimates a row; a schedule may change it.

    Example:
        >>> import torch
        >>> from ils_lightning.estimators import ReinMax
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> Average(ReinMax(), samples=8)(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
    """

    counts: ClassVar[dict[str, int]] = {"samples": 1}
    kind = "wrapper"
    equation = r"""
        \hat\nabla &= \frac{1}{S} \sum_{s=1}^{S} \hat\nabla_s, \text{ where } \hat\nabla_s
            \text{ are independent estimates}
    """

    def __init__(self, estimator: Estimator, samples: int = 4) -> None:
        super().__init__()
        self.samples = self.whole("samples", samples, 1)
        self.estimator = estimator
        for fact in (
            "unbiased",
            "exact_for",
            "needs_gradient",
            "hard",
            "ones",
            "needs_log_weight",
            "calls",
            "pooled",
            "pooled_by_state",
            "binary",
            "source",
        ):
            setattr(self, fact, getattr(estimator, fact))
        self.cost = f"S * ({estimator.cost})"

    @property
    def needs_slopes(self) -> Literal["all", "drawn", "none"]:
        return self.estimator.needs_slopes

    @property
    def graph_breaks(self) -> str:
        return self.estimator.graph_breaks

    def evaluations(self, latents: int, categories: int) -> int:
        return self.samples * self.estimator.evaluations(latents, categories)

    def build(self, latents: int, categories: int) -> None:
        self.estimator.build(latents, categories)

    def check(self, logits: Tensor) -> None:
        self.estimator.check(logits)

    def _asks(self) -> bool:
        return super()._asks() or self.estimator._asks()

    def value(self, logits: Tensor, f: Loss) -> Tensor:
        return self.estimator.value(logits, f)

    def distribution(self, logits: Tensor) -> Distribution:
        return self.estimator.distribution(logits)

    def diagnostics(self) -> dict[str, Tensor]:
        return self.estimator.diagnostics()

    def forward(self, logits: Tensor, f: Loss) -> Tensor:
        """Returns the loss `[*batch]`, the mean over copies, each of which delivers its own estimate to the logits."""
        self.check(logits)
        if not torch.is_grad_enabled():
            return self.value(logits, f)
        self._check_coupling(logits, f)
        return self.estimator(*self._copied(logits, f)).mean(dim=-1)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        loss, estimate = self.estimator.estimate(*self._copied(logits, f))
        return loss.mean(dim=-1), estimate.mean(dim=-3)

    def _copied(self, logits: Tensor, f: Loss) -> tuple[Tensor, Loss]:
        """Logits `[*batch, samples, latents, categories]` and the loss of as many copies."""
        # copies are the last batch axis: options with one value per row keep theirs
        copies = logits.unsqueeze(-3).expand(*logits.shape[:-2], self.samples, *logits.shape[-2:])

        def f_of_copies(z: Tensor) -> Tensor:
            z = z.movedim(-3, 1)
            return evaluate(f, z.flatten(0, 1).clone()).unflatten(0, z.shape[:2]).movedim(1, -1)

        return copies, f_of_copies
