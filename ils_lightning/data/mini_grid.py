"""Episodes of a random policy in a grid world of minigrid: rooms that are seen in part, and a goal to be found.

An agent turns, steps and, where that is of use, picks up and opens. It sees 7 x 7 cells in front of it, less what walls
hide. An observation says of each cell which of twelve kinds it is, one-hot; colours are left out.

Source: M. Chevalier-Boisvert et al., Minigrid & Miniworld, 2023, 2306.13831 (the package minigrid, an optional extra).
"""

from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from ils_lightning.data.batches import generator
from ils_lightning.data.episodes import EpisodeData, Episodes, EpisodeSplits
from ils_lightning.errors import Refusal, did_you_mean
from ils_lightning.extras import require

VIEW = 7
"""Cells a side of what the agent sees; it stands in the middle of the lowest row and looks up."""
_OF_TYPE = ("unseen", "empty", "wall", "floor", "open door", "key", "ball", "box", "goal", "lava")
_DOOR = 4  # minigrid's number of it; its states are open, closed, locked
KINDS = (*_OF_TYPE, "closed door", "locked door")
"""What a cell may hold."""
_ACTIONS = 7  # left, right, forward, pick up, drop, toggle, done


class Cells(NamedTuple):
    """How observations are read as views: `side` x `side` cells, of each how much it is of every one of `kinds`.

    `mean` `[side * side * kinds]` is to be added to an observation, for the greatest of a cell to be its kind.
    """

    side: int
    kinds: tuple[str, ...]
    mean: Tensor


class MiniGrid(EpisodeData):
    """Sequences of steps of an agent that moves at random; each begins where an episode begins.

    `observation` is `[batch, length, 588]`, 7 x 7 cells of 12 kinds, one-hot, less their means over training steps and
    divided by one number, the root of their mean variance: a guess of the means is off by a square of 1. The reward is
    1 where minigrid's is above 0. An episode that minigrid cuts off for its length does not count as ended.

    Args:
        environment: one of minigrid's.
        actions: how many of its seven are used: left, right, forward, pick up, drop, toggle, done.
        train: sequences to learn from.
        validation: sequences for validation; 0 for none.
        test: sequences for the test.
        length: steps of a sequence.
        batch_size: sequences a step and rank.
        seed: of the episodes, and of the order of training sequences.

    Raises:
        ValueError: when a size is out of range, minigrid is not installed, or has no such environment.

    Example:
        >>> data = MiniGrid("MiniGrid-Empty-Random-5x5-v0", train=40, validation=2, test=2)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch.observation.shape, batch.action.shape
        (torch.Size([32, 32, 588]), torch.Size([32, 32]))
    """

    def __init__(
        self,
        environment: str = "MiniGrid-Empty-Random-6x6-v0",
        actions: int = 3,
        train: int = 1_000,
        validation: int = 128,
        test: int = 256,
        length: int = 32,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__((train, validation, test), length, batch_size, seed)
        if not 1 <= actions <= _ACTIONS:
            raise Refusal(
                f"MiniGrid: actions must be 1 to {_ACTIONS}: left, right, forward, pick up, drop, toggle, done; given "
                f"{actions}"
            )
        require("minigrid", "the data MiniGrid", "worlds")
        self.environment, self.actions = _known(environment), actions

    @property
    def observed_and_actions(self) -> tuple[int, int]:
        """How many numbers are observed, and how many actions there are."""
        return VIEW * VIEW * len(KINDS), self.actions

    @property
    def cells(self) -> Cells:
        """What observations stand for."""
        return Cells(VIEW, KINDS, self._scale[0] / self._scale[1])

    @cached_property
    def _recorded(self) -> Episodes:
        return recorded(self.environment, self.actions, sum(self.sizes), self.length, self.seed)

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        """Means `[588]` of the training steps, and the root of their mean variance."""
        train = self._recorded.observation[: self.sizes[0]].flatten(0, 1)
        return train.mean(dim=0), train.var(dim=0).mean().sqrt()

    @cached_property
    def splits(self) -> EpisodeSplits:
        """The three parts, recorded once."""
        mean, deviation = self._scale
        found = self._recorded
        return self.split(found._replace(observation=(found.observation - mean) / deviation))

    def summary(self) -> dict[str, str]:
        """What to print beside every result on these data."""
        rewards = sum(float(part.episodes.reward.sum()) for part in self.splits)
        told = f"{self.told()} and {rewards:,.0f} rewards"
        return {"data": f"{self.environment}, random policy of {self.actions} actions", "sequences": told}


@lru_cache(maxsize=4)
def recorded(environment: str, actions: int, sequences: int, length: int, seed: int) -> Episodes:
    """Returns sequences of a random policy, observations as one-hot; comparisons ask for the same for every run."""
    noise = generator(seed, 0)
    world = _made(environment)
    world.reset(seed=int(torch.randint(2**31, (), generator=noise)))
    steps = [step for _ in range(sequences) for step in _sequence(world, actions, length, noise)]
    seen, *others = zip(*steps, strict=True)
    action, first, goes_on, reward = (torch.tensor(part) for part in others)
    views = torch.from_numpy(np.stack(seen))
    parts = kinds(views), action, first, goes_on.float(), reward.float()
    return Episodes(*(part.unflatten(0, (sequences, length)) for part in parts))


def _sequence(world: Any, actions: int, length: int, noise: Generator) -> list[tuple[Any, int, bool, bool, bool]]:
    """What is seen, what was done before it, whether it is the first of an episode, goes on, and is rewarded."""
    steps, over = [], True
    for action in torch.randint(actions, (length,), generator=noise).tolist():
        if over:
            seen, _ = world.reset()
            steps.append((seen["image"], 0, True, True, False))
            over = False
            continue
        seen, reward, ended, cut, _ = world.step(action)
        steps.append((seen["image"], action, False, not ended, reward > 0))
        over = ended or cut
    return steps


def kinds(views: Tensor) -> Tensor:
    """The kind of every cell, one-hot, of minigrid's views `[*batch, 7, 7, 3]` of types, colours and states.

    Returns:
        `[*batch, 588]`, cells row by row as the agent sees them, the row of its own last.
    """
    of_type, _, state = views.transpose(-3, -2).long().unbind(dim=-1)  # minigrid has columns first
    shut = (of_type == _DOOR) & (state > 0)
    kind = torch.where(shut, len(_OF_TYPE) - 1 + state, of_type)
    return functional.one_hot(kind, len(KINDS)).float().flatten(-3)


def _known(environment: str) -> str:
    """The name of one of minigrid's environments; others are not looked for, for their code would be run."""
    import gymnasium
    import minigrid  # noqa: F401  (which tells gymnasium of its environments)

    names = [name for name, spec in gymnasium.registry.items() if str(spec.entry_point).startswith("minigrid.")]
    if environment not in names:
        raise Refusal(
            "MiniGrid: environment must be one of minigrid's, such as MiniGrid-DoorKey-5x5-v0; given "
            f"{environment!r}{did_you_mean(environment, names)}"
        )
    return environment


def _made(environment: str) -> Any:
    import gymnasium

    return gymnasium.make(environment, disable_env_checker=True).unwrapped
