"""Paths through a world model, and what they cost in nats."""

import math
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from ils_lightning.data.episodes import Episodes
from ils_lightning.estimators.distribution import Categorical
from ils_lightning.networks.state_space import Decoded


class Path(NamedTuple):
    """What sequences lead through: h `[*batch, length, recurrent]`, z and the logits of q, with unimix, likewise."""

    h: Tensor
    z: Tensor
    logits: Tensor


class Parts(NamedTuple):
    """Nats of each step `[*batch, length]`: -log p of the observation, of going on, of the reward, and KL(q || p)."""

    reconstruction: Tensor
    continuation: Tensor
    reward: Tensor
    kl: Tensor


def parts(answers: Decoded, q: Tensor, p: Tensor, episodes: Episodes, deviation: float) -> Parts:
    """Returns the nats of each step.

    Args:
        answers: what is decoded, `[*batch, length, ...]`.
        q: logits `[*batch, length, latents, categories]` in sight of the observation.
        p: logits without, alike.
        episodes: what happened, `[batch, length, ...]`.
        deviation: of observations from their means.
    """
    away = (episodes.observation - answers.observation) / deviation
    constant = math.log(deviation) + math.log(2 * math.pi) / 2
    return Parts(
        (away.square() / 2 + constant).sum(dim=-1),
        _coin(answers.goes_on, episodes.goes_on),
        _coin(answers.reward, episodes.reward),
        kl(q, p),
    )


def _coin(logits: Tensor, fell: Tensor) -> Tensor:
    """-log p of how coins fell, 1 or 0, given the logits of 1."""
    return functional.binary_cross_entropy_with_logits(logits, fell.expand_as(logits), reduction="none")


def kl(q: Tensor, p: Tensor) -> Tensor:
    """KL(q || p) of all latents together `[*batch]`, in nats, of logits `[*batch, latents, categories]`."""
    return Categorical(q).kl(Categorical(p)).sum(dim=-1)


def steps(episodes: Episodes) -> list[tuple[Tensor, Tensor]]:
    """The action before each step, and whether it is the first of an episode, each `[batch]`."""
    return list(zip(episodes.action.unbind(dim=1), episodes.first.unbind(dim=1), strict=True))
