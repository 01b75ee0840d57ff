"""Episodes of a random policy on the cart-pole: what a world model learns from, recorded in memory.

A pole stands on a cart that is pushed left or right; x is the cart's place, theta the pole's angle. With force F,
masses m_c and m_p, half the pole's length l and steps of tau seconds by Euler's method,

    a = (F + m_p l theta'^2 sin theta) / (m_c + m_p)
    theta'' = (g sin theta - a cos theta) / (l (4/3 - m_p cos^2 theta / (m_c + m_p)))
    x'' = a - m_p l theta'' cos theta / (m_c + m_p)

An episode is over where |x| > 2.4 m or |theta| > 12 degrees. Gymnasium's CartPole-v1 is this system; its end after 500
steps is not here, for a random policy comes nowhere near.

Source: A. Barto, R. Sutton and C. Anderson, Neuronlike adaptive elements that can solve difficult learning control
problems, 1983, in the constants of CartPole-v1.
"""

import math
from functools import cached_property

import torch
from torch import Generator, Tensor

from ils_lightning.data.batches import generator
from ils_lightning.data.episodes import EpisodeData, Episodes, EpisodeSplits

_GRAVITY, _CART, _POLE, _HALF_LENGTH, _FORCE, _SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
FARTHEST, _STEEPEST = 2.4, math.radians(12)
_START = 0.05  # each number of a first state is within so much of 0
OBSERVED = ("place of the cart", "its speed", "angle of the pole", "its speed of turning")
"""What is observed at each step, in this order: x, x', theta, theta'."""


class CartPole(EpisodeData):
    """Sequences of steps of a cart-pole that is pushed at random; each begins where an episode begins.

    Observations are in standard deviations of the training steps. The reward is 1 at every step, so that there is
    nothing to predict of it but whether the episode goes on.

    Args:
        train: sequences to learn from.
        validation: sequences for validation; 0 for none.
        test: sequences for the test.
        length: steps of a sequence; an episode has 22 on average.
        batch_size: sequences a step and rank.
        seed: of the episodes, and of the order of training sequences.

    Raises:
        ValueError: when a size is out of range.

    Example:
        >>> data = CartPole(train=100, validation=10, test=10)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch.observation.shape, batch.action.shape
        (torch.Size([32, 24, 4]), torch.Size([32, 24]))
    """

    def __init__(
        self,
        train: int = 3_000,
        validation: int = 300,
        test: int = 1_000,
        length: int = 24,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__((train, validation, test), length, batch_size, seed)

    @property
    def observed_and_actions(self) -> tuple[int, int]:
        """How many numbers are observed, and how many actions there are."""
        return len(OBSERVED), 2

    @cached_property
    def _recorded(self) -> Episodes:
        """All sequences, with observations as they are."""
        return record(sum(self.sizes), self.length, generator(self.seed, 0))

    @cached_property
    def scale(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations `[4]` of the training steps, in which observations are given."""
        train = self._recorded.observation[: self.sizes[0]].flatten(0, 1)
        return train.mean(dim=0), train.std(dim=0)

    @cached_property
    def splits(self) -> EpisodeSplits:
        """The three parts, recorded once."""
        mean, deviation = self.scale
        found = self._recorded
        return self.split(found._replace(observation=(found.observation - mean) / deviation))

    def states(self, observation: Tensor) -> Tensor:
        """Returns what observations `[*any, 4]` of these data are of: places, speeds and angles, `[*any, 4]`."""
        mean, deviation = (one.to(observation) for one in self.scale)
        return observation * deviation + mean

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Goes one step on from states, which the caller keeps.

        Args:
            state: place, speed, angle and its speed `[*any, 4]`.
            action: 0 to push to the left, 1 to the right, `[*any]`.

        Returns:
            The next states, the observations of these, and whether the episode goes on, `[*any]`. The reward is 1.
        """
        mean, deviation = (one.to(state) for one in self.scale)
        state = pushed(state, action)
        return state, (state - mean) / deviation, ~is_over(state)

    def summary(self) -> dict[str, str]:
        """What to print beside every result on these data."""
        return {"data": "cart-pole, random policy", "sequences": self.told()}


def pushed(state: Tensor, action: Tensor) -> Tensor:
    """Returns the next states of `[*any, 4]`, the cart pushed left (action 0) or right (1), `[*any]`.

    Example:
        >>> pushed(torch.zeros(4), torch.tensor(1))
        tensor([ 0.0000,  0.1951,  0.0000, -0.2927])
    """
    _, speed, angle, turning = state.unbind(dim=-1)
    sin, cos, total = angle.sin(), angle.cos(), _CART + _POLE
    force = _FORCE * (2 * action - 1)
    a = (force + _POLE * _HALF_LENGTH * turning.square() * sin) / total
    turned = (_GRAVITY * sin - a * cos) / (_HALF_LENGTH * (4 / 3 - _POLE * cos.square() / total))
    sped = a - _POLE * _HALF_LENGTH * turned * cos / total
    rates = torch.stack([speed, sped, turning, turned], dim=-1)
    return state + _SECONDS * rates


def is_over(state: Tensor) -> Tensor:
    """Whether an episode ends in each of the states `[*any, 4]`."""
    return (state[..., 0].abs() > FARTHEST) | (state[..., 2].abs() > _STEEPEST)


def record(sequences: int, length: int, noise: Generator) -> Episodes:
    """Returns sequences of a random policy, a new episode following where one ends; observations as they are."""
    steps, over = [], torch.ones(sequences, dtype=torch.bool)
    state = torch.zeros(sequences, 4)
    for _ in range(length):
        start = (2 * torch.rand(sequences, 4, generator=noise) - 1) * _START
        action = torch.randint(2, (sequences,), generator=noise)
        first = over
        state = torch.where(first.unsqueeze(-1), start, pushed(state, action))
        over = is_over(state)
        reward = torch.ones(sequences)
        steps.append(Episodes(state, action.masked_fill(first, 0), first, (~over).float(), reward))
    return Episodes(*(torch.stack(part, dim=1) for part in zip(*steps, strict=True)))
