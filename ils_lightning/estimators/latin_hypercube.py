"""Several draws of each latent, spread over its distribution instead of independent: Latin hypercube sampling.

    u_1l..u_Sl: one in each of S bins of equal width, shuffled by each latent l for itself (McKay et al., 1979)
    z_sl = the category at u_sl of pi_l's cumulative sum;   estimate = 1/S sum_s estimate_s(z_s)

Each draw by itself follows pi, its latents independent, so the mean is as biased as one estimate is. Between the draws
of a latent the correlation is negative: what an estimate has as a sum over latents nearly loses its noise.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.average import Average
from ils_lightning.estimators.base import Estimator, Loss
from ils_lightning.estimators.categorical import latin_hypercube
from ils_lightning.estimators.sampler import Pullback


class LatinHypercube(Average):
    """`Average` with draws that are spread over each latent's distribution: less noise for the same evaluations.

    The gradient of what f holds, a decoder say, gains as the logits' does. It takes estimators that draw one category
    from the logits' distribution and state their backward in closed form: the ILS family, ReinMax, straight-through.

    Args:
        estimator: the estimator to average.
        samples: draws a row; a schedule may change it.

    Example:
        >>> import torch
        >>> from ils_lightning.estimators import ReinMax
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> LatinHypercube(ReinMax(), samples=3)(logits, lambda z: z[..., 0].sum(-1))  # each category once a row
        tensor([0.3333, 0.3333, 0.3333, 0.3333], grad_fn=<MeanBackward1>)
    """

    equation = r"""
        u_{1l}, \dots, u_{Sl} &\text{: one in each of } S \text{ bins of } [0, 1], \text{ shuffled for each } l \\
        z_{sl} &= \text{the category at } u_{sl} \text{ of the cumulative sum of } \pi_l \\
        \hat\nabla &= \frac{1}{S} \sum_{s=1}^{S} \hat\nabla(z_s)
    """

    def __init__(self, estimator: Estimator, samples: int = 4) -> None:
        if not (isinstance(estimator, Pullback) and type(estimator).draw is Pullback.draw):
            raise Refusal(
                "LatinHypercube takes estimators that draw one category a latent and whose backward is a closed form, "
                f"such as ReinMax and ILSNewton; given {type(estimator).__name__}. Average takes any"
            )
        if estimator.pooled and not estimator.pooled_by_state:
            # they leave a row's own draw out of what they pool, which its copies know of here
            raise Refusal(
                f"LatinHypercube: {type(estimator).__name__} pools the rows of a step, of which it needs independent "
                "draws. Average gives it those"
            )
        super().__init__(estimator, samples)

    def forward(self, logits: Tensor, f: Loss) -> Tensor:
        with self._spread():
            return super().forward(logits, f)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        with self._spread():
            return super().estimate(logits, f)

    @contextmanager
    def _spread(self) -> Iterator[None]:
        """Has the copies draw from noise that is spread over them; one alone draws as the estimator does."""
        estimator: Any = self.estimator
        estimator.noise = latin_hypercube if self.samples > 1 else None
        try:
            yield
        finally:
            estimator.noise = None
