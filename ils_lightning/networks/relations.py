"""The two networks of neural relational inference: one guesses the edges of a graph, the other moves its particles.

Both pass messages on the complete directed graph, edges listed receiver by receiver:

    encoder   h_i = f(x_i), h_ij = f([h_j, h_i]);  h_i' = f(sum_j h_ij / N), logits_ij = W f([h_j', h_i', h_ij])
    decoder   x_i(t + 1) = x_i(t) + v([x_i(t), sum_j z_ij m(x_j(t), x_i(t))])

Source: T. Kipf et al., 2018, 1802.04687: the MLP encoder, f with two layers of ELU and batch normalisation, and the MLP
decoder with edge type 0 meaning no message (`--skip-first` in its code).
"""

import torch
from torch import Tensor, nn

from ils_lightning.data.spring_simulation import directed_edges
from ils_lightning.errors import Refusal


class NormalisedMLP(nn.Module):
    """Two layers of ELU, then batch normalisation over all rows: `[*rows, inputs]` to `[*rows, units]`."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, units), nn.ELU(), nn.Linear(units, units), nn.ELU())
        self.norm = nn.BatchNorm1d(units)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        return self.norm(x.flatten(0, -2)).view_as(x)


class EdgeEncoder(nn.Module):
    """Trajectories to the logits of edge types, for each directed edge.

    Args:
        particles: how many there are.
        values: of a particle's trajectory, points x 4.
        units: of all layers.
        types: of edges.

    Example:
        >>> EdgeEncoder(particles=4, values=100, units=16)(torch.randn(3, 4, 25, 4)).shape
        torch.Size([3, 12, 2])
    """

    receiver: Tensor
    sender: Tensor

    def __init__(self, particles: int, values: int, units: int, types: int = 2) -> None:
        super().__init__()
        self.particles = particles
        _register_edges(self, particles)
        self.of_particles, self.of_edges = NormalisedMLP(values, units), NormalisedMLP(2 * units, units)
        self.of_incoming, self.of_paths = NormalisedMLP(units, units), NormalisedMLP(3 * units, units)
        self.last = nn.Linear(units, types)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.constant_(layer.bias, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits `[batch, edges, types]` of trajectories `[batch, particles, points, 4]`."""
        edges = self.of_edges(self._on_edges(self.of_particles(x.flatten(-2))))
        incoming = edges.unflatten(1, (self.particles, self.particles - 1)).sum(dim=2) / self.particles
        paths = self._on_edges(self.of_incoming(incoming))
        return self.last(self.of_paths(torch.cat([paths, edges], dim=-1)))

    def _on_edges(self, h: Tensor) -> Tensor:
        """Sender beside receiver `[batch, edges, 2 units]` of particles `[batch, particles, units]`."""
        return torch.cat([h[:, self.sender], h[:, self.receiver]], dim=-1)


class InteractionDecoder(nn.Module):
    """Moves particles along the springs of a graph, a point of time at a time, the same rule for all of them.

    Args:
        particles: how many there are.
        units: of all layers.

    Example:
        >>> decoder, x = InteractionDecoder(particles=4, units=16), torch.randn(3, 4, 25, 4)
        >>> decoder.predict(x, torch.ones(7, 3, 12), steps=8).shape
        torch.Size([7, 3, 4, 24, 4])
    """

    receiver: Tensor
    sender: Tensor

    def __init__(self, particles: int, units: int) -> None:
        super().__init__()
        self.particles = particles
        _register_edges(self, particles)
        self.of_sender, self.of_receiver = nn.Linear(4, units), nn.Linear(4, units, bias=False)
        self.message = nn.Linear(units, units)
        self.move = nn.Sequential(
            nn.Linear(4 + units, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 4)
        )

    def forward(self, state: Tensor, spring: Tensor) -> Tensor:
        """Returns the next states `[*any, batch, particles, times, 4]`, of states alike.

        Args:
            state: positions and velocities, `[batch, particles, times, 4]`, with or without the leading axes of spring.
            spring: how much of a spring each directed edge is, `[*any, batch, edges]`.
        """
        sent = self.of_sender(state).index_select(-3, self.sender)
        sent = sent + self.of_receiver(state).index_select(-3, self.receiver)
        messages = torch.relu(self.message(torch.relu(sent))) * spring[..., None, None]
        received = messages.unflatten(-3, (self.particles, self.particles - 1)).sum(dim=-3)
        state = state.expand(*received.shape[:-1], state.shape[-1])
        return state + self.move(torch.cat([state, received], dim=-1))

    def predict(self, x: Tensor, spring: Tensor, steps: int) -> Tensor:
        """Predicts all points of trajectories but the first, `steps` of them from each true point it starts from.

        Args:
            x: `[batch, particles, points, 4]`.
            spring: `[*any, batch, edges]`.
            steps: from a true point on; 1 predicts each point from the one before.

        Returns:
            Points 2 to the last, `[*any, batch, particles, points - 1, 4]`.
        """
        state, found = x[..., :-1:steps, :], []
        for _ in range(steps):
            state = self(state, spring)
            found.append(state)
        return torch.stack(found, dim=-2).flatten(-3, -2)[..., : x.shape[-2] - 1, :]

    def rollout(self, start: Tensor, spring: Tensor, steps: int) -> Tensor:
        """Predicts `steps` points `[*any, batch, particles, steps, 4]` from single ones `[batch, particles, 1, 4]`."""
        state, found = start, []
        for _ in range(steps):
            state = self(state, spring)
            found.append(state)
        return torch.cat(found, dim=-2)


def _register_edges(network: nn.Module, particles: int) -> None:
    if particles < 2:
        raise Refusal(f"a graph needs at least 2 particles; given {particles}")
    for name, places in zip(("receiver", "sender"), directed_edges(particles), strict=True):
        network.register_buffer(name, places, persistent=False)
