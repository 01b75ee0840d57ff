"""Springs in a box: trajectories of particles whose graph is to be found, generated in memory."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ils_lightning.data.split_data import SplitData
from ils_lightning.data.spring_simulation import directed_edges, random_graphs, simulate, starts
from ils_lightning.data.trajectory_set import TrajectorySet
from ils_lightning.errors import require_at_least


class _Splits(NamedTuple):
    train: TrajectorySet
    val: TrajectorySet
    test: TrajectorySet


class Springs(SplitData):
    """Simulated particles in a box; a spring joins each pair with probability one half.

    Positions and velocities are scaled so that those of the training simulations lie in [-1, 1], by one scale each. The
    published sizes are particles 5, points 49, steps_between 10 (0.1 units of time), train 50000, validation and test
    10000; the defaults are smaller, so that a model trains in a minute.

    Args:
        particles: in each simulation.
        points: how many a model sees of a trajectory.
        later: points after those, on which predictions are measured.
        steps_between: leapfrog steps of 0.01 units of time between two points.
        train: simulations to learn from.
        validation: simulations for validation; 0 for none.
        test: simulations for the test.
        batch_size: simulations a step and rank.
        seed: of the simulations, and of the order of training ones.

    Source: T. Kipf et al., 2018, 1802.04687.

    Example:
        >>> data = Springs(train=50, validation=10, test=10)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch.x.shape, batch.future.shape, batch.edges.shape
        (torch.Size([32, 4, 25, 4]), torch.Size([32, 4, 20, 4]), torch.Size([32, 12]))
    """

    called = "simulations"

    def __init__(
        self,
        particles: int = 4,
        points: int = 25,
        later: int = 20,
        steps_between: int = 20,
        train: int = 10_000,
        validation: int = 500,
        test: int = 1_000,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        require_at_least(2, "Springs", particles=particles, points=points)
        require_at_least(1, "Springs", later=later, steps_between=steps_between, train=train, test=test)
        require_at_least(0, "Springs", validation=validation)
        self.particles, self.points, self.later, self.steps_between = particles, points, later, steps_between
        self.sizes = train, validation, test

    @property
    def trajectory_shape(self) -> tuple[int, int, int]:
        """[particles, points, values] of what a model learns from."""
        return self.particles, self.points, 4

    @property
    def splits(self) -> _Splits:
        """The simulations, scaled."""
        values, edges = _simulated(
            sum(self.sizes), self.particles, self.points + self.later, self.steps_between, self.seed
        )
        values = values / _scale(values[: self.sizes[0]])
        parts = zip(values.split(self.sizes), edges.split(self.sizes), strict=True)
        return _Splits(*(TrajectorySet(*part, self.points) for part in parts))

    def summary(self) -> dict[str, str]:
        """What to print beside every result on these data."""
        train, val, test = (f"{size:,}" for size in self.sizes)
        told = f"{train} train, {val} validation, {test} test of {self.points} points and {self.later} later ones"
        return {"data": f"springs between {self.particles} particles", "simulations": told}


def _scale(values: Tensor) -> Tensor:
    """The largest absolute position, twice, and velocity, twice: what `[rows, particles, points, 4]` is divided by."""
    return values.unflatten(-1, (2, 2)).abs().amax(dim=(0, 1, 2, 4)).repeat_interleave(2)


@lru_cache(maxsize=4)
def _simulated(number: int, particles: int, points: int, every: int, seed: int) -> tuple[Tensor, Tensor]:
    """Simulations as float32, and the types of their directed edges; comparisons ask for the same for every run."""
    generator = Generator().manual_seed(seed)
    adjacency = random_graphs(number, particles, generator)
    values = simulate(adjacency, *starts(number, particles, generator), points, every).float()
    receiver, sender = directed_edges(particles)
    return values, adjacency[:, receiver, sender].to(torch.uint8)
