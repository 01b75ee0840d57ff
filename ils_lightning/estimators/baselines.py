"""Baselines b for score-function estimators: what is subtracted from f before it multiplies the score.

A baseline answers before it sees the present losses, so that the estimate keeps its expectation.
"""

import torch
from torch import Tensor, nn

from ils_lightning.describe import Described
from ils_lightning.errors import Refusal
from ils_lightning.estimators.categorical import softmax
from ils_lightning.estimators.distributed import sum_over_ranks
from ils_lightning.estimators.perceptron import Perceptron
from ils_lightning.estimators.usual import judge, nothing_seen


class Baseline(Described, nn.Module):
    """Maps detached logits `[*batch, latents, categories]` to b, broadcastable to the loss `[*batch]`."""

    _abstract = True

    pooled: bool = False

    def forward(self, logits: Tensor) -> Tensor:
        """Returns the baseline of each row."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(logits)")

    def update(self, loss: Tensor) -> None:
        """Learns from the losses `[samples, *batch]` of this step, after `forward` was used.

        Rows whose loss was not used, because its upstream gradient was 0, are NaN.
        """

    def build(self, latents: int, categories: int) -> None:
        """Makes state whose size depends on the problem."""


class MovingAverage(Baseline):
    """Exponential moving average of the mean finite loss over rows, samples and ranks; zero before the first step.

    A step out of all proportion teaches nothing (see `usual`). Each layer needs its own instance.

    Args:
        decay: weight of the past, in [0, 1).
    """

    pooled = True
    average: Tensor
    weight: Tensor
    recent: Tensor
    level: Tensor

    def __init__(self, decay: float = 0.9) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise Refusal(f"MovingAverage: decay must be in [0, 1); given {decay}")
        self.decay = decay
        self.register_buffer("average", torch.zeros((), dtype=torch.float64))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))
        for name, value in zip(("recent", "level"), nothing_seen(1), strict=True):
            self.register_buffer(name, value)

    def forward(self, logits: Tensor) -> Tensor:
        average = self.average / self.weight.clamp(min=1e-30)  # undoes the pull of the start towards zero
        return average.to(logits.dtype)

    def update(self, loss: Tensor) -> None:
        counts = torch.isfinite(loss)
        loss = torch.where(counts, loss.detach(), 0).double()
        total, square, number = sum_over_ranks(torch.stack([loss.sum(), loss.square().sum(), counts.sum()]))
        keep, take = judge(
            self.recent, self.level, (square / number).sqrt().reshape(1), self.decay, torch.isfinite(total)
        )
        for state, new in ((self.average, total / number), (self.weight, 1)):
            state.copy_(torch.where(keep, state, 0).squeeze())
            state.copy_(torch.where(take, self.decay * state + (1 - self.decay) * new, state).squeeze())


class NetworkBaseline(Baseline):
    """A baseline that knows the row: a small network of the probabilities (Mnih and Gregor, 2014, 1402.0030).

    Its weights are parameters of the estimator, so they learn by the gradient of |estimate|^2 in the model's own
    optimiser: towards b = E[f |z - pi|^2] / E[|z - pi|^2], the baseline of least variance, where a regression on the
    losses would only reach E f. Each layer needs its own instance.

    Args:
        hidden: units of the network's hidden layer.

    Example:
        >>> import torch
        >>> from ils_lightning.estimators import Reinforce
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> Reinforce(baseline=NetworkBaseline())(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
    """

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.network = Perceptron(hidden)

    def build(self, latents: int, categories: int) -> None:
        self.network.build(latents * categories)

    def forward(self, logits: Tensor) -> Tensor:
        return self.network(softmax(logits).flatten(-2))
