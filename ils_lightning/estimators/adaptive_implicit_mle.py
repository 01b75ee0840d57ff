"""Adaptive implicit MLE (Minervini, Franceschi and Niepert, 2023, 2209.04862).

Paper: Adaptive Perturbation-Based Gradient Estimation for Discrete Latent Variable Models.

    z = MAP(theta + eps), eps standard Gumbel, MAP = one-hot argmax;
    lambda = beta |theta| / |g|, norms over the batch;
    estimate = [MAP(theta + lambda g + eps) - MAP(theta - lambda g + eps)] / (2 lambda);
    m <- .9 m + .1 (non-zero entries of the numerator per row);   beta <- max(0, beta + rate sign(target - m))

A row's difference has 2 non-zero entries for each latent that moves: target = 1 means that half of the rows see one
latent move.
"""

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.categorical import conditional_gumbel, one_hot
from ils_lightning.estimators.distributed import mean_over_rows, sums_over_ranks
from ils_lightning.estimators.loss import LEARNS, refuse_transforms
from ils_lightning.estimators.sampler import Pullback

DECAY = 0.9


class AdaptiveImplicitMLE(Pullback):
    """Implicit MLE with a symmetric difference, whose step length adapts until estimates are as sparse as asked.

    beta and m are buffers, read before they are updated and updated in training mode only, so each layer needs its own
    instance. Rows without an upstream gradient are left out of all that is summed over the batch.

    Args:
        beta: first value of the step's length relative to the logits; 0 gives zero estimates until it has moved.
        rate: change of beta at each backward pass.
        target: non-zero entries per row aimed at, between 0 and twice the latents.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> estimator = AdaptiveImplicitMLE(rate=0.001)
        >>> estimator(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
    """

    source = "Minervini et al. 2023, 2209.04862"
    equation = r"""
        z &= M(\theta + \epsilon) \\
        \epsilon &\sim \mathrm{Gumbel}(0, 1) \\
        M &= \text{one-hot } \argmax \\
        \lambda &= \beta \, \lVert\theta\rVert / \lVert g\rVert \\
        \hat\nabla &= \frac{M(\theta + \lambda g + \epsilon) - M(\theta - \lambda g + \epsilon)}{2 \lambda} \\
        m &\leftarrow 0.9 \, m + 0.1 \, (\text{non-zero entries of the numerator per row}) \\
        \beta &\leftarrow \max(0, \beta + \text{rate} \cdot \operatorname{sign}(\text{target} - m))
    """
    pooled = True
    beta: Tensor
    moved: Tensor
    rate: float

    def __init__(self, beta: float = 1.0, rate: float = 1e-4, target: float = 1.0) -> None:
        super().__init__()
        if not 0 < target < float("inf"):
            raise Refusal(f"AdaptiveImplicitMLE: target must be greater than 0 non-zero entries; given {target}")
        self.option("rate", rate, strict=False)
        if not 0 <= beta < float("inf"):
            raise Refusal(f"AdaptiveImplicitMLE: beta must be at least 0 and finite; given {beta}")
        self.target = target
        self.register_buffer("beta", torch.tensor(float(beta)))
        self.register_buffer("moved", torch.tensor(1.0))

    @property
    def learns(self) -> bool:
        return True

    def pullback(self, logits: Tensor, pi: Tensor, z: Tensor, g: Tensor) -> Tensor:
        counted = torch.ones_like(logits[..., 0], dtype=torch.bool)
        if self.counted is not None:
            counted = self.counted.unsqueeze(-1).expand_as(counted)
        step = self._step(logits.to(pi.dtype), g, counted.unsqueeze(-1))
        perturbed = conditional_gumbel(logits.to(pi.dtype), z)
        up = one_hot((perturbed + step * g).argmax(dim=-1), z)
        down = one_hot((perturbed - step * g).argmax(dim=-1), z)
        if self.training:
            refuse_transforms("AdaptiveImplicitMLE", LEARNS)
            self._adapt((up != down).sum(dim=(-2, -1)), counted[..., 0])
        return (up - down) * torch.where(step > 0, 0.5 / step, 0)

    def check(self, logits: Tensor) -> None:
        super().check(logits)
        if self.target >= 2 * logits.shape[-2]:
            raise Refusal(
                "AdaptiveImplicitMLE: target must be less than twice the latents, the most non-zero entries of a row; "
                f"given {self.target:g} with {logits.shape[-2]} latents"
            )

    def diagnostics(self) -> dict[str, Tensor]:
        """The step's relative length and the mean number of non-zero entries per row."""
        return {"beta": self.beta.clone(), "moved": self.moved.clone()}

    def _step(self, theta: Tensor, g: Tensor, counted: Tensor) -> Tensor:
        """Returns lambda, zero when g is; all-zero logits count as ones, for they could never move otherwise."""
        theta = torch.where(torch.isfinite(theta) & counted, theta, 0)
        number = counted.expand_as(theta).to(theta).sum()
        square, number, of_g = sums_over_ranks(theta.square().sum(), number, g.square().sum())
        size, norm = torch.where(square > 0, square, number).sqrt(), of_g.sqrt()
        return torch.where(norm > 0, self.beta.to(theta.dtype) * size / norm, 0)

    def _adapt(self, moved: Tensor, counted: Tensor) -> None:
        mean = mean_over_rows(moved, counted).to(self.moved.dtype)
        any_rows = ~torch.isnan(mean)
        new = DECAY * self.moved + (1 - DECAY) * mean
        self.moved = torch.where(any_rows, new, self.moved)
        step = self.rate * torch.sign(self.target - self.moved)
        self.beta = (self.beta + torch.where(any_rows, step, 0)).clamp(min=0)
