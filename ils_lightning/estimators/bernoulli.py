"""Bernoulli latents as one-hot vectors over two categories, shared by the binary estimators.

Category 0 is b = 1: z = (b, 1 - b), p = pi_0 = sigmoid(t) with t = logits_0 - logits_1. A gradient for t goes to
category 0 as it is and to category 1 with its sign flipped. Probabilities come in pairs (p, 1 - p), each exact where
the other one rounds to 1, so that a deterministic row (a logit of -inf) always draws its one category.
"""

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.base import Loss, evaluate
from ils_lightning.estimators.categorical import softmax


def probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns p and 1 - p `[*batch, latents]` of logits `[*batch, latents, 2]`, in float32 at least, no graph."""
    pi = softmax(logits.detach())
    return pi[..., 0], pi[..., 1]


def uniform(like: Tensor, samples: int | None = None) -> Tensor:
    """Draws uniform noise in [0, 1) in float64, of the shape of `like`, or `[samples, ...]`."""
    shape = like.shape if samples is None else (samples, *like.shape)
    return torch.rand(shape, dtype=torch.float64, device=like.device)


def draw(p: Tensor, q: Tensor, samples: int) -> Tensor:
    """Draws independent b `[samples, *batch, latents]` of Bernoulli(p), given q = 1 - p; dtype of `p`."""
    return (uniform(p, samples) >= q).to(p.dtype)


def antithetic(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Draws b = 1[u >= 1 - p] and b' = 1[u < p], stacked `[2, *batch, latents]`, and the noise u they share."""
    u = uniform(p)
    return torch.stack((u >= q, u < p)).to(p.dtype), u.to(p.dtype)


def one_hot(b: Tensor) -> Tensor:
    """Returns z = (b, 1 - b) `[..., 2]` of b `[...]`."""
    return torch.stack((b, 1 - b), dim=-1)


def to_logits(gradient: Tensor) -> Tensor:
    """Returns the gradient `[..., 2]` for the logits of a gradient `[...]` for t."""
    return torch.stack((gradient, -gradient), dim=-1)


def leave_one_out_mean(values: Tensor) -> Tensor:
    """Returns the mean over the other samples: entry k of `[samples, ...]` averages all entries but the k-th."""
    return (values.sum(dim=0) - values) / (len(values) - 1)


def loss_and_slope(name: str, f: Loss, z: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluates f at draws z `[samples, *batch, latents, 2]` on behalf of the estimator called `name`.

    Returns:
        The loss `[samples, *batch]`, its graph alive, and G = df/db `[samples, *batch, latents]`, without a graph.

    Raises:
        ValueError: when f's answer has no gradient.
    """
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        loss = evaluate(f, leaf)
        if not loss.requires_grad:
            raise Refusal(
                f"{name} needs a loss f that is differentiable in z; the answer given has no gradient "
                "(LeaveOneOut and DisArm do without)"
            )
        (g,) = torch.autograd.grad(loss.sum(), leaf, retain_graph=True)
    return loss, g[..., 0] - g[..., 1]
