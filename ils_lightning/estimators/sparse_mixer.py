"""SparseMixer (Liu, Gao and Chen, 2023, 2310.00811): a router's gradient from the drawn expert's output alone.

    D ~ p = softmax(theta);   f sees a p_D at expert D, with a = 1 if D = argmax p or B, else 1/2,   B ~ Bernoulli(1/2)
    estimate = 2 g_D dp_D / dtheta,   g_D = df / d(weight of D) there

The objective is E_D f(p_D e_D): the gate is in it. Its gradient sum_D f(p_D e_D) dp_D + p_D f' dp_D takes f - f(0)
from f's slope, by the mid-point rule (a = 1/2) or Euler's (a = 1), and shares the draw with the gate's own gradient.

Source: microsoft/SparseMixer, `sparsemixer.py`. There categories far below the top, by `jitter`, are masked first.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ils_lightning.estimators.base import Loss, evaluate
from ils_lightning.estimators.categorical import draw, softmax
from ils_lightning.estimators.sampler import Sampler


class SparseMixer(Sampler):
    """Draws one category and weighs it by its probability; backward needs the slope at the drawn category only.

    For mixtures of experts that cannot afford the output of experts which were not drawn. f sees z with one entry, a
    times the drawn category's probability, so that the gate is part of z and of the objective.

    Args:
        jitter: r; categories with (top - theta_k) / max(|theta_k|, top) > 2 r are not drawn; None masks none.

    Example:
        >>> import torch
        >>> z = SparseMixer().sample(torch.zeros(2, 1, 4))
        >>> (z > 0).sum(-1)
        tensor([[1],
                [1]])
    """

    source = "Liu et al. 2023, 2310.00811"
    equation = r"""
        D &\sim \pi \\
        B &\sim \mathrm{Bernoulli}(1/2) \\
        & f \text{ sees the weight } a \pi_D \text{ at expert } D \\
        a &= 1 \text{ if } D = \argmax \pi \text{ or } B = 1, \text{ else } 1/2 \\
        \hat\nabla &= 2 \, g_D \, \frac{\partial \pi_D}{\partial \theta}
    """
    hard = False
    exact_for = "linear"
    chance: ClassVar[float] = 1 / 2
    """Probability of B."""
    shorter: ClassVar[float] = 1 / 2
    """a where neither B nor the top category is drawn."""
    factor: ClassVar[Literal[1, 2]] = 2

    def __init__(self, jitter: float | None = None) -> None:
        super().__init__()
        self.jitter = jitter
        if jitter is not None:
            self.option("jitter", jitter)

    @property
    def needs_slopes(self) -> Literal["all", "drawn", "none"]:
        return "drawn"

    def sample(self, logits: Tensor) -> Tensor:
        theta = logits.float() if logits.element_size() < 4 else logits
        p = softmax(self.masked(theta))
        z = draw(p)
        top = z.argmax(dim=-1, keepdim=True) == p.argmax(dim=-1, keepdim=True)
        B = torch.rand(top.shape, device=p.device) < self.chance
        a = torch.where(top | B, 1.0, self.shorter).to(p.dtype)
        live = self.factor * z * p  # its derivative counts, its value is taken out
        return (a * z * p.detach() + (live - live.detach())).to(logits.dtype)

    def masked(self, theta: Tensor) -> Tensor:
        """The logits, those that `jitter` would never put on top at -inf."""
        if self.jitter is None:
            return theta
        with torch.no_grad():
            top = theta.amax(dim=-1, keepdim=True)
            far = (top - theta) / theta.abs().maximum(top) > 2 * self.jitter
        return theta.masked_fill(far, float("-inf"))

    def value(self, logits: Tensor, f: Loss) -> Tensor:
        """Returns the loss `[*batch]` of the category drawn, weighed by its probability."""
        self.check(logits)
        p = softmax(self.masked(logits))
        return evaluate(f, (draw(p) * p).to(logits.dtype).unsqueeze(0)).squeeze(0)
