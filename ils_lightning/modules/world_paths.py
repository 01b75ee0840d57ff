"""Paths through a world model, and what they cost in nats."""

import math
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from ils_lightning.data.cart_pole import Episodes
from ils_lightning.estimators.distribution import Categorical


class Path(NamedTuple):
    """What sequences lead through: h `[*batch, length, recurrent]`, z and the logits of q, with unimix, likewise."""

    h: Tensor
    z: Tensor
    logits: Tensor


class Parts(NamedTuple):
    """Nats of each step `[*batch, length]`: -log p of what is observed and of going on, and KL(q || p)."""

    reconstruction: Tensor
    continuation: Tensor
    kl: Tensor


def parts(answers: tuple[Tensor, Tensor], q: Tensor, p: Tensor, episodes: Episodes, deviation: float) -> Parts:
    """Returns the nats of each step.

    Args:
        answers: means of the observations `[*batch, length, observed]`, logits of going on `[*batch, length]`.
        q: logits `[*batch, length, latents, categories]` in sight of the observation.
        p: logits without, alike.
        episodes: what happened, `[batch, length, ...]`.
        deviation: of observations from their means.
    """
    mean, goes_on = answers
    away = (episodes.observation - mean) / deviation
    constant = math.log(deviation) + math.log(2 * math.pi) / 2
    wanted = episodes.goes_on.expand_as(goes_on)
    return Parts(
        (away.square() / 2 + constant).sum(dim=-1),
        functional.binary_cross_entropy_with_logits(goes_on, wanted, reduction="none"),
        kl(q, p),
    )


def kl(q: Tensor, p: Tensor) -> Tensor:
    """KL(q || p) of all latents together `[*batch]`, in nats, of logits `[*batch, latents, categories]`."""
    return Categorical(q).kl(Categorical(p)).sum(dim=-1)


def steps(episodes: Episodes) -> list[tuple[Tensor, Tensor]]:
    """The action before each step, and whether it is the first of an episode, each `[batch]`."""
    return list(zip(episodes.action.unbind(dim=1), episodes.first.unbind(dim=1), strict=True))
