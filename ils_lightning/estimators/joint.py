"""The joint space of all latents: its categories ** latents configurations, numbered with the last latent fastest."""

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators.categorical import log_softmax, one_hot


def check_size(name: str, logits: Tensor, limit: int) -> None:
    """Raises a ValueError when the joint space has more than `limit` configurations."""
    latents, categories = logits.shape[-2:]
    if categories**latents > limit:
        raise Refusal(
            f"{name} weighs every one of the categories ** latents configurations; {categories} ** {latents} = "
            f"{categories**latents} exceeds limit = {limit}. LeaveOneOut is unbiased at any size"
        )


def log_prob(logits: Tensor) -> Tensor:
    """Log-probability of every configuration, `[*batch, categories ** latents]`, in float64."""
    log_pi = log_softmax(logits.double())
    total = log_pi[..., 0, :]
    for latent in range(1, logits.shape[-2]):
        total = (total.unsqueeze(-1) + log_pi[..., latent, None, :]).flatten(-2)
    return total


def configurations(index: Tensor, like: Tensor) -> Tensor:
    """One-hot configurations `[..., latents, categories]` of numbers `index` `[...]`; sizes and dtype from `like`."""
    latents, categories = like.shape[-2:]
    return one_hot(digits(index, categories, latents), like)


def digits(index: Tensor, categories: int, latents: int) -> Tensor:
    """Categories `[..., latents]` of configurations number `index` `[...]`."""
    places = categories ** torch.arange(latents - 1, -1, -1, device=index.device)
    return index.unsqueeze(-1) // places % categories
