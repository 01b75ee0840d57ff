"""Particles in a box of which some pairs are joined by springs, simulated.

    F_i = -k sum_j A_ij (x_i - x_j),   v <- v + h F(x),   x <- x + h v,   walls reflect; k = 0.1, h = 0.01

Positions start normal with standard deviation 0.5, velocities in any direction with speed 0.5; walls are at -5 and 5.

Source: T. Kipf et al., 2018, 1802.04687, and its `data/synthetic_sim.py`, whose step is 0.001.
"""

import math

import torch
from torch import Generator, Tensor

STEP = 0.01
"""Time of one leapfrog step; ten times the published one, which changes positions by less than 0.01."""
_STRENGTH, _WALL = 0.1, 5.0
_SPREAD, _SPEED = 0.5, 0.5


def directed_edges(particles: int) -> tuple[Tensor, Tensor]:
    """Receivers and senders `[edges]` of all N (N - 1) directed edges, receiver by receiver.

    Example:
        >>> directed_edges(3)
        (tensor([0, 0, 1, 1, 2, 2]), tensor([1, 2, 0, 2, 0, 1]))
    """
    receiver, sender = (1 - torch.eye(particles)).nonzero(as_tuple=True)
    return receiver, sender


def random_graphs(graphs: int, particles: int, generator: Generator) -> Tensor:
    """Symmetric adjacency `[graphs, N, N]` in which each pair is joined with probability one half."""
    upper = torch.rand(graphs, particles, particles, generator=generator).lt(0.5).double().triu(diagonal=1)
    return upper + upper.mT


def starts(graphs: int, particles: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Random positions and velocities `[graphs, N, 2]` to start from."""
    shape = graphs, particles
    position = _SPREAD * torch.randn(*shape, 2, generator=generator, dtype=torch.float64)
    angle = 2 * math.pi * torch.rand(shape, generator=generator, dtype=torch.float64)
    return position, _SPEED * torch.stack([angle.cos(), angle.sin()], dim=-1)


def simulate(
    adjacency: Tensor, position: Tensor, velocity: Tensor, points: int, every: int, step: float = STEP
) -> Tensor:
    """Returns positions and velocities `[graphs, N, points, 4]`, float64, the first at the start.

    Args:
        adjacency: `[graphs, N, N]`, 1 where there is a spring.
        position: `[graphs, N, 2]`.
        velocity: `[graphs, N, 2]`.
        points: how many are kept.
        every: leapfrog steps between two of them.
        step: time of a leapfrog step.

    Example:
        >>> found = simulate(torch.zeros(1, 1, 1), torch.zeros(1, 1, 2), torch.ones(1, 1, 2), points=2, every=10)
        >>> found[0, 0, 1]
        tensor([0.1000, 0.1000, 1.0000, 1.0000], dtype=torch.float64)
    """
    x, v, adjacency = position.double(), velocity.double(), adjacency.double()
    laplacian = torch.diag_embed(adjacency.sum(dim=-1)) - adjacency
    kept = [torch.cat([x, v], dim=-1)]
    for _ in range(points - 1):
        for _ in range(every):
            v = v - (step * _STRENGTH) * (laplacian @ x)
            x = x + step * v
            outside = x.abs() > _WALL
            v = torch.where(outside, -x.sign() * v.abs(), v)
            x = torch.where(outside, x.sign() * 2 * _WALL - x, x)
        kept.append(torch.cat([x, v], dim=-1))
    return torch.stack(kept, dim=-2)
