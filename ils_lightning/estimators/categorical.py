"""The primitives every estimator is written with: softmax, exact draws, log-probabilities and Gumbel noise.

All functions work on the last axis (`categories`) of tensors `[*batch, latents, categories]`. A category is masked by a
logit of -inf: its probability is zero, it is never drawn and its gradient is zero. Noise comes from `torch.rand` alone.
"""

import torch
from torch import Tensor
from torch.nn import functional

_FEW = 16  # below this many categories torch's CPU softmax is slower than the three passes written out


def softmax(logits: Tensor) -> Tensor:
    """Probabilities `[..., categories]`, in float32 at least, differentiable, exactly zero where the logit is -inf."""
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if logits.shape[-1] >= _FEW:
        return torch.softmax(logits, dim=-1)
    weights = torch.exp(logits - logits.detach().amax(dim=-1, keepdim=True))
    return weights / weights.sum(dim=-1, keepdim=True)


def one_hot(index: Tensor, like: Tensor) -> Tensor:
    """One-hot vectors `[..., categories]` of `index` `[...]`, with the size, dtype and device of `like`."""
    zeros = torch.zeros(*index.shape, like.shape[-1], dtype=like.dtype, device=like.device)
    return zeros.scatter_(-1, index.unsqueeze(-1), 1)


def draw_index(pi: Tensor, samples: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Draws categories from `pi` `[..., categories]` by inverting its cumulative sum: one uniform a row.

    Sums run in float64, so that small categories survive at any number of categories, and the uniform is scaled by the
    row's own total, so that rows need not sum to one exactly. A category of probability zero is never drawn.

    Args:
        pi: probabilities, or any non-negative weights.
        samples: draws a row; they share the cumulative sum. None draws once, without a leading axis.
        generator: source of the uniforms; torch's global one by default.

    Returns:
        Indices `[...]`, or `[samples, ...]`.

    Example:
        >>> import torch
        >>> draw_index(torch.tensor([0.0, 1.0, 0.0]), samples=3)
        tensor([1, 1, 1])
    """
    cumulative = pi.detach().double().cumsum(dim=-1)
    total = cumulative[..., -1:]
    count = 1 if samples is None else samples
    shape = (*total.shape[:-1], count)
    u = torch.rand(shape, dtype=torch.float64, device=pi.device, generator=generator) * total
    u = torch.minimum(u, torch.nextafter(total, torch.zeros_like(total)))
    index = torch.searchsorted(cumulative.contiguous(), u, right=True)
    return index.squeeze(-1) if samples is None else index.movedim(-1, 0)


def draw(pi: Tensor, samples: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Draws one-hot vectors `[*batch, latents, categories]` (or `[samples, ...]`) from `pi`; see `draw_index`."""
    return one_hot(draw_index(pi, samples, generator), pi)


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities `[..., categories]`, in float32 at least, -inf at masked categories."""
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return torch.log_softmax(logits, dim=-1)


def log_prob(logits: Tensor, z: Tensor) -> Tensor:
    """Log-probability of `z` `[..., categories]` summed over categories: `[...]`; linear in relaxed values of `z`."""
    return torch.where(z == 0, 0.0, z * log_softmax(logits)).sum(dim=-1)


def exponential(like: Tensor) -> Tensor:
    """Standard exponential noise of the shape, dtype and device of `like`: positive and finite in every draw."""
    u = torch.rand(like.shape, dtype=like.dtype, device=like.device)
    return -torch.log1p(-u).clamp(max=-torch.finfo(like.dtype).tiny)


def gumbel(like: Tensor) -> Tensor:
    """Standard Gumbel noise of the shape, dtype and device of `like`: finite in every draw."""
    return -torch.log(exponential(like))


def conditional_gumbel(logits: Tensor, z: Tensor) -> Tensor:
    """Draws the perturbed logits `logits + Gumbel` given that their argmax is the drawn category of `z`.

    With Z = sum exp(logits) and E standard exponential: drawn category -log E_k + log Z, the others
    -log(E_j / exp(logits_j) + E_k / Z). Differentiable in the logits with the noise held fixed.

    Source: Maddison, Tarlow and Minka, 2014 (1411.0030); Tucker et al., 2017 (1703.07370).
    """
    noise = exponential(logits)
    masked = logits == float("-inf")
    log_total = torch.logsumexp(logits, dim=-1, keepdim=True)
    top = log_total - torch.log((z * noise).sum(dim=-1, keepdim=True))
    # softplus, not logaddexp: its second derivative, which REBAR needs, is finite at any distance of the logits
    gap = torch.log(noise) - logits.masked_fill(masked, 0) + top
    others = top - functional.softplus(gap, threshold=40)
    return torch.where(z > 0, top, others).masked_fill(masked, float("-inf"))


def jacobian(q: Tensor, v: Tensor) -> Tensor:
    """J(q) v = q * (v - q.v): what softmax's Jacobian at probabilities `q` does to a vector `v` `[..., categories]`."""
    return q * (v - (q * v).sum(dim=-1, keepdim=True))


def enumerate_states(latents: int, categories: int, like: Tensor) -> Tensor:
    """All one-hot configurations `[categories ** latents, latents, categories]`, the last latent varying fastest."""
    grid = torch.cartesian_prod(*[torch.arange(categories, device=like.device)] * latents)
    return one_hot(grid.reshape(-1, latents), like)


def entropy(pi: Tensor) -> Tensor:
    """Entropy in nats of the rows of `pi` `[..., categories]`: `[...]`."""
    return torch.special.entr(pi).sum(dim=-1)
