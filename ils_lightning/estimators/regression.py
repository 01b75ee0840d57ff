"""Moving regressions of an estimate on regressors of mean zero, one coefficient for each latent.

    e = estimate + w n, as it is without the control variate n and its present coefficient w
    coefficient = max(0, 1 - sum (e.n)^2 / (sum e.n)^2) sum e.n / sum |n|^2,   sums over rows and steps

The factor takes back what a few rows alone say: it is 0 where the sum of the products is no more than their own noise.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.distributed import sums_over_ranks
from ils_lightning.estimators.family import rows


def coefficients(fit: Tensor) -> Tensor:
    """Of n regressions `[n, latents, 1]`, from their moving sums `[3, n, latents, 1]` (see `moments`)."""
    product, square, noise = fit
    shrink = (1 - noise / product.square().clamp(min=1e-300)).clamp(min=0)
    return torch.where(square > 0, shrink * product / square.clamp(min=1e-300), 0)


def moments(estimate: Tensor, noise: Tensor, weight: Tensor, least: Tensor, number: Tensor) -> Tensor:
    """Sums over rows `[3, n, latents, 1]` behind regressions on `noise` `[n, *batch, latents, categories]`.

    They are the products with the estimate, the squares plus `least` `[n, *batch, latents]`, and the squared products.
    """
    counts = number[:, None, None] > 0
    regressors = torch.stack([torch.where(counts, rows(x), 0) for x in noise])
    targets = torch.where(counts, rows(estimate), 0) + weight.unsqueeze(1) * regressors
    total, count = sums_over_ranks(targets.sum(dim=1, keepdim=True), number.sum())
    targets = targets - total / count.clamp(min=1)  # what all rows share is no noise, and E noise = 0
    product = (targets * regressors).sum(dim=-1, keepdim=True)
    square = regressors.square().sum(dim=-1) + number[:, None] * least.reshape(regressors.shape[:-1])
    return torch.stack([product, square.unsqueeze(-1), product.square()]).sum(dim=2)
