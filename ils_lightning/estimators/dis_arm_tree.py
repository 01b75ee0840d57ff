"""DisARM-Tree: Coupled Gradient Estimators for Discrete Latent Variables (Dong, Mnih and Tucker, 2021, 2106.08056).

    A balanced binary tree over the categories; node n has a set of leaves on its left and one on its right:
    alpha_n = logsumexp(theta, left) - logsumexp(theta, right),   p_n = sigmoid(alpha_n),   u_n uniform
    b_n = 1[1 - u_n < p_n], b'_n = 1[u_n < p_n], 1 = go left;   z, z' = the leaves reached
    weight_n = (-1)^{b'_n} 1[b_n != b'_n] max(p_n, 1 - p_n)  where both paths pass n,
               b_n - p_n  on z's path only,   -(b'_n - p_n)  on that of z' only,   0 elsewhere
    estimate = sum_n 1/2 (f(z) - f(z')) weight_n d alpha_n / d theta

Unbiased for any tree; for two categories it is DisARM. Trees whose size is no power of two are filled up with
impossible leaves.
"""

import torch
from torch import Tensor

from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.categorical import one_hot


class DisArmTree(Estimator):
    """Two antithetic draws, coupled through every binary choice that leads to a category.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> DisArmTree()(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
    """

    source = "Dong et al. 2021, 2106.08056"
    equation = r"""
        \alpha_n &= \operatorname{logsumexp}_{\text{left}} \theta
            - \operatorname{logsumexp}_{\text{right}} \theta \\
        p_n &= \sigma(\alpha_n) \\
        u_n &\sim \mathrm{Uniform}(0, 1) \\
        b_n &= \mathbf{1}[1 - u_n < p_n] \\
        b'_n &= \mathbf{1}[u_n < p_n], \quad z, z' \text{ the leaves reached} \\
        w_n &= \begin{cases}
            (-1)^{b'_n} \mathbf{1}[b_n \ne b'_n] \max(p_n, 1 - p_n) & \text{both paths pass } n \\
            b_n - p_n & \text{on the path of } z \text{ only} \\
            -(b'_n - p_n) & \text{on that of } z' \text{ only} \\
            0 & \text{elsewhere}
        \end{cases} \\
        \hat\nabla &= \tfrac{1}{2} \left(f(z) - f(z')\right) \sum_n w_n \frac{\partial \alpha_n}{\partial \theta}
    """
    cost = "2"
    unbiased = True
    exact_for = "all"

    def evaluations(self, latents: int, categories: int) -> int:
        return 2

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        theta = logits.detach().double()
        levels = probabilities(theta)
        leaves, weights = walk(levels, theta[..., 0])
        loss = evaluate(f, one_hot(leaves, logits))
        half = (loss[0] - loss[1]).detach().double()[..., None, None] / 2
        estimate = half * to_leaves(levels, weights, theta)
        return loss.mean(dim=0), estimate.to(logits.dtype)


def probabilities(theta: Tensor) -> list[Tensor]:
    """p_n of going left at the nodes of each level, root first: `[*batch, latents, 2 ** level]`."""
    size = 1 << int(theta.shape[-1] - 1).bit_length()
    total = torch.nn.functional.pad(theta, (0, size - theta.shape[-1]), value=float("-inf"))
    levels = []
    while total.shape[-1] > 1:
        left, right = total[..., 0::2], total[..., 1::2]
        alpha = torch.where(left == right, 0.0, left - right)  # impossible on both sides: never reached
        levels.insert(0, torch.sigmoid(alpha))
        total = torch.logaddexp(left, right)
    return levels


def walk(levels: list[Tensor], like: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Walks both draws down the tree: leaves `[2, *batch, latents]` and weight_n `[*batch, latents, 2 ** level]`.

    The uniforms are drawn along the paths only: one where both pass, two where they have parted.
    """
    here = there = torch.zeros_like(like, dtype=torch.long)
    weights = []
    for p in levels:
        together = here == there
        u, other = _open_uniform(like), _open_uniform(like)
        p_here, p_there = (p.gather(-1, node.unsqueeze(-1)).squeeze(-1) for node in (here, there))
        b = 1 - u < p_here
        b_there = torch.where(together, u, other) < p_there
        coupled = torch.where(b == b_there, 0, torch.where(b, 1.0, -1.0) * torch.maximum(p_here, 1 - p_here))
        first = torch.where(together, coupled, b.to(p.dtype) - p_here)
        second = torch.where(together, 0, p_there - b_there.to(p.dtype))
        weight = torch.zeros_like(p).scatter_add_(-1, here.unsqueeze(-1), first.unsqueeze(-1))
        weights.append(weight.scatter_add_(-1, there.unsqueeze(-1), second.unsqueeze(-1)))
        here, there = 2 * here + (~b).long(), 2 * there + (~b_there).long()
    return torch.stack((here, there)), weights


def to_leaves(levels: list[Tensor], weights: list[Tensor], like: Tensor) -> Tensor:
    """sum_n weight_n d alpha_n / d theta, of the shape of `like`: the chain rule of logsumexp, from root to leaf."""
    slope = torch.zeros_like(like[..., :1])
    for p, weight in zip(levels, weights, strict=True):
        slope = torch.stack((slope * p + weight, slope * (1 - p) - weight), dim=-1).flatten(-2)
    return slope[..., : like.shape[-1]]


def _open_uniform(like: Tensor) -> Tensor:
    """Uniforms that are neither 0 nor 1, nor is 1 less them: a category of probability zero is never reached."""
    return torch.rand(like.shape, dtype=like.dtype, device=like.device).clamp(min=torch.finfo(like.dtype).eps / 2)
