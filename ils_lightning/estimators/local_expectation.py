"""Local expectation gradients (Titsias and Lazaro-Gredilla, 2015), IndeCateR (De Smet et al., 2023, 2311.12569).

    z ~ pi;   f_lk = f(z with latent l at category k);   estimate_l = J(pi_l) f_l,   averaged over samples

One latent's categories are summed over, the others stay as drawn: only the noise of the other latents is left.
Unbiased for any f, differentiable or not.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.categorical import draw, jacobian, softmax


class LocalExpectation(Estimator):
    """Evaluates f at every category of every latent, the others as drawn.

    Exact for one latent. It costs latents x (categories - 1) + 1 evaluations of f a draw, all in one call: low noise
    where evaluations are cheap, and a reference where the states of all latents together cannot be enumerated.

    Args:
        samples: draws a row.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 2, 3, requires_grad=True)
        >>> LocalExpectation()(logits, lambda z: z[..., 0].sum(-1).square()).sum().backward()
    """

    source = "De Smet et al. 2023, 2311.12569"
    equation = r"""
        z &\sim \pi \\
        f_{lk} &= f(z \text{ with latent } l \text{ at category } k) \\
        \hat\nabla_l &= J_{\pi_l} f_l, \quad \text{averaged over samples}
    """
    kind = "score function"
    cost = "S * (L * (K - 1) + 1)"
    unbiased = True
    exact_for = "all"

    def __init__(self, samples: int = 1) -> None:
        super().__init__()
        self.samples = self.whole("samples", samples, 1)

    def evaluations(self, latents: int, categories: int) -> int:
        return self.samples * (latents * (categories - 1) + 1)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        pi = softmax(logits.detach())
        z = draw(pi, self.samples)
        latents, categories = pi.shape[-2:]
        moved = neighbours(z, pi)
        points = torch.cat([z.unsqueeze(0), moved.flatten(0, 1)]).flatten(0, 1)
        loss = evaluate(f, points.to(logits.dtype)).unflatten(0, (-1, self.samples))
        values = loss.detach().to(pi.dtype)
        by_step = torch.cat(
            [values[:1].expand(latents, 1, *values.shape[1:]), values[1:].unflatten(0, (latents, categories - 1))],
            dim=1,
        ).movedim((0, 1), (-2, -1))  # [samples, *batch, latents, steps from the drawn category]
        steps = (torch.arange(categories, device=z.device) - z.argmax(dim=-1, keepdim=True)) % categories
        f_lk = by_step.gather(-1, steps)
        return loss[0].mean(dim=0), jacobian(pi, f_lk).mean(dim=0).to(logits.dtype)


def neighbours(z: Tensor, pi: Tensor) -> Tensor:
    """Draws `[*any, latents, categories]` with one latent moved on by 1 .. K - 1: `[latents, K - 1, *z.shape]`.

    Where that category cannot be drawn, the draw itself stands in: its weight is zero, and f need not be defined there.
    """
    latents, categories = z.shape[-2:]
    moved = torch.stack([z.roll(step, dims=-1) for step in range(categories)])[1:]
    moved = torch.where((moved * pi).sum(dim=-1, keepdim=True) > 0, moved, z)
    one = torch.eye(latents, dtype=torch.bool, device=z.device)
    return torch.where(one.view(latents, *[1] * (z.dim() - 1), latents, 1), moved, z)
