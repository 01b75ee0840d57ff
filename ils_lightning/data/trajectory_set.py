"""Trajectories of particles in memory, and what a model sees of them in a step."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Generator, Tensor


class Trajectories(NamedTuple):
    """A batch of simulations, all with equally many particles.

    `x` is float `[batch, particles, points, 4]`, positions and velocities, of which the model learns; `future` float
    `[batch, particles, later, 4]` holds the points that follow, for measuring; `edges` int64 `[batch, N (N - 1)]` are
    the true types of the directed edges, 1 for a spring, receiver by receiver: for measuring, not for learning.
    """

    x: Tensor
    future: Tensor
    edges: Tensor


@dataclass(frozen=True)
class TrajectorySet:
    """The simulations of one split: `values` float `[rows, particles, points + later, 4]`, `edges` uint8.

    Args:
        values: positions and velocities.
        edges: true types of the directed edges.
        points: how many of the points are learnt from.
    """

    values: Tensor
    edges: Tensor
    points: int

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, index: Tensor | slice, noise: Generator | None = None) -> Trajectories:
        """Returns the simulations at `index`; nothing about them is random."""
        del noise
        values = self.values[index]
        return Trajectories(values[:, :, : self.points], values[:, :, self.points :], self.edges[index].long())
