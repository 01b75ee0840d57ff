"""How many latents say anything about the images."""

import torch
from torch import Tensor
from torchmetrics import Metric


class ActiveLatents(Metric):
    """Number of latents whose mutual information with the image exceeds `threshold` nats.

    I(x; z_l) = H(mean over x of q(z_l | x)) - mean over x of H(q(z_l | x)). A latent that is constant, or that is drawn
    alike for every image, has none, however far it is from the prior.

    Args:
        latents: number of latents.
        categories: categories of each.
        threshold: in nats.

    Example:
        >>> metric = ActiveLatents(latents=2, categories=2)
        >>> metric.update(torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]]))
        >>> metric.compute()
        tensor(1.)
    """

    full_state_update = False
    total: Tensor
    entropy: Tensor
    rows: Tensor

    def __init__(self, latents: int, categories: int, threshold: float = 0.01) -> None:
        super().__init__()
        self.threshold = threshold
        self.add_state("total", torch.zeros(latents, categories, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("entropy", torch.zeros(latents, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, pi: Tensor) -> None:
        """Adds posteriors q(z | x), `[batch, latents, categories]`."""
        pi = pi.double()
        self.total += pi.sum(dim=0)
        self.entropy += torch.special.entr(pi).sum(dim=(0, -1))
        self.rows += len(pi)

    def mutual_information(self) -> Tensor:
        """Returns I(x; z_l) `[latents]` in nats, of the rows seen by this process."""
        return torch.special.entr(self.total / self.rows).sum(dim=-1) - self.entropy / self.rows

    def compute(self) -> Tensor:
        """Returns the number of active latents."""
        return (self.mutual_information() > self.threshold).sum().float()
