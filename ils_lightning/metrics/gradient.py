"""How far gradient estimates are from the gradient, over all rows seen (and over ranks).

With replicates e_1..e_n of a row's estimate, m their mean, v their variance and G the gradient, each row adds
    |m - G|^2 - v / n,   v,   |G|^2,   m.G,   |m|^2 - v / n
to sums of which every metric here is a ratio: all are free of what the noise of n replicates would add.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from ils_lightning.errors import Refusal


class GradientMoments(Metric):
    """Sums over rows of what is known of an estimator; subclasses write `compute`.

    They are updated with estimates `[replicates, *batch, latents, categories]` and the gradient
    `[*batch, latents, categories]`. Rows may come in any portions, and may come again with fresh replicates.
    """

    full_state_update = False
    bias_square: Tensor
    variance: Tensor
    truth_square: Tensor
    product: Tensor
    mean_square: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("bias_square", "variance", "truth_square", "product", "mean_square"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, estimates: Tensor, gradient: Tensor) -> None:
        """Adds replicates of the estimates of some rows.

        Raises:
            ValueError: for fewer than two replicates, and for shapes that do not belong together.
        """
        if estimates.dim() < 3 or len(estimates) < 2 or estimates.shape[1:] != gradient.shape:
            raise Refusal(
                f"{type(self).__name__} needs estimates [replicates, *batch, latents, categories], at least 2 of them, "
                f"and the gradient [*batch, latents, categories]; given {list(estimates.shape)} and "
                f"{list(gradient.shape)}"
            )
        e, G = estimates.detach().double(), gradient.detach().double()
        variance, mean = torch.var_mean(e, dim=0)
        noise = variance.sum() / len(e)
        self.bias_square += (mean - G).square().sum() - noise
        self.variance += variance.sum()
        self.truth_square += G.square().sum()
        self.product += (mean * G).sum()
        self.mean_square += mean.square().sum() - noise


class RelativeBias(GradientMoments):
    """|E e - G| / |G|; 0 where noise hides it.

    Example:
        >>> metric = RelativeBias()
        >>> metric.update(torch.tensor([[[[3.0, 0.0]]], [[[3.0, 0.0]]]]), torch.tensor([[[2.0, 0.0]]]))
        >>> metric.compute()
        tensor(0.5000)
    """

    def compute(self) -> Tensor:
        return (self.bias_square.clamp(min=0) / self.truth_square).sqrt().float()


class RelativeVariance(GradientMoments):
    """E |e - E e|^2 / |G|^2.

    Example:
        >>> metric = RelativeVariance()
        >>> metric.update(torch.tensor([[[[3.0, 0.0]]], [[[1.0, 0.0]]]]), torch.tensor([[[2.0, 0.0]]]))
        >>> metric.compute()
        tensor(0.5000)
    """

    def compute(self) -> Tensor:
        return (self.variance / self.truth_square).float()


class GradientCosine(GradientMoments):
    """Cosine of E e with G.

    Example:
        >>> metric = GradientCosine()
        >>> metric.update(torch.tensor([[[[3.0, 4.0]]], [[[3.0, 4.0]]]]), torch.tensor([[[1.0, 0.0]]]))
        >>> metric.compute()
        tensor(0.6000)
    """

    def compute(self) -> Tensor:
        length = (self.mean_square * self.truth_square).clamp(min=0).sqrt()
        return torch.where(length > 0, (self.product / length).clamp(-1, 1), float("nan")).float()


class SignalToNoise(GradientMoments):
    """|E e| / sqrt(E |e - E e|^2); infinite without noise.

    Example:
        >>> metric = SignalToNoise()
        >>> metric.update(torch.tensor([[[[3.0, 0.0]]], [[[1.0, 0.0]]]]), torch.tensor([[[2.0, 0.0]]]))
        >>> metric.compute()
        tensor(1.2247)
    """

    def compute(self) -> Tensor:
        return (self.mean_square.clamp(min=0) / self.variance).sqrt().float()
