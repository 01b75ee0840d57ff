"""The networks of a recurrent state-space model with categorical latents (Hafner et al., 2021, 2010.02193).

h_t = GRU(h_{t-1}, [z_{t-1}, a_{t-1}])                what is remembered; 0 before an episode's first step
q(z_t | h_t, x_t),   p(z_t | h_t)                     logits with and without the observation
x_t, goes on, reward  <-  decoder(h_t, z_t)
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Decoded(NamedTuple):
    """What follows from h and z: means of the observation `[*batch, observed]`, logits `[*batch]` of the two coins."""

    observation: Tensor
    goes_on: Tensor
    reward: Tensor


class StateSpace(nn.Module):
    """Networks of one hidden layer around a recurrent cell. Latents are `[*batch, latents, categories]`.

    Args:
        observed: numbers that are observed at a step.
        actions: how many there are.
        code: latents, and categories of each.
        recurrent: units of the recurrent state.
        hidden: units of the hidden layers.

    Example:
        >>> cell = StateSpace(observed=4, actions=2, code=(8, 8), recurrent=16, hidden=32)
        >>> h, z = cell.start(5)
        >>> h = cell.step(h, z, torch.zeros(5, dtype=torch.long), torch.ones(5, dtype=torch.bool))
        >>> cell.prior(h).shape, cell.decode(h, z).observation.shape
        (torch.Size([5, 8, 8]), torch.Size([5, 4]))
    """

    def __init__(self, observed: int, actions: int, code: tuple[int, int], recurrent: int, hidden: int) -> None:
        super().__init__()
        self.code, self.recurrent = code, recurrent
        flat = code[0] * code[1]
        self.embedding = nn.Sequential(nn.Linear(observed, hidden), nn.SiLU(), nn.Linear(hidden, hidden, bias=False))
        self.of_action, self.of_code = nn.Embedding(actions, hidden), nn.Linear(flat, hidden)
        self.cell = nn.GRUCell(hidden, recurrent)
        self.memory = nn.Linear(recurrent, hidden)
        self.last = nn.Linear(hidden, flat)
        self.prior_layers = nn.Sequential(nn.Linear(recurrent, hidden), nn.SiLU(), nn.Linear(hidden, flat))
        self.decoder = nn.Sequential(
            nn.Linear(recurrent + flat, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.answers = nn.Linear(hidden, observed + 1)
        self.reward = nn.Linear(hidden, 1)

    def start(self, rows: int) -> tuple[Tensor, Tensor]:
        """Returns h `[rows, recurrent]` and z of nothing seen yet."""
        weight = self.answers.weight
        return weight.new_zeros(rows, self.recurrent), weight.new_zeros(rows, *self.code)

    def step(self, h: Tensor, z: Tensor, action: Tensor, first: Tensor) -> Tensor:
        """Returns the next h `[*batch, recurrent]`; where it is the `first` of an episode, all before is forgotten.

        The action is its number, `[*batch]`, or a vector `[*batch, actions]` that has a slope.
        """
        of_action = action @ self.of_action.weight if action.is_floating_point() else self.of_action(action)
        kept = (~first).to(h.dtype).unsqueeze(-1)
        x = functional.silu(self.of_code(z.flatten(-2)) + of_action) * kept
        return self.cell(x.flatten(0, -2), (h * kept).flatten(0, -2)).view_as(h)

    def posterior(self, h: Tensor, embedded: Tensor) -> Tensor:
        """Returns logits of z given h and the embedded observation `[*batch, hidden]`."""
        return self.last(functional.silu(self.memory(h) + embedded)).unflatten(-1, self.code)

    def prior(self, h: Tensor) -> Tensor:
        """Returns logits of z given h alone."""
        return self.prior_layers(h).unflatten(-1, self.code)

    def decode(self, h: Tensor, z: Tensor) -> Decoded:
        """Returns the observation, whether the episode goes on, and whether the step is rewarded."""
        hidden = self.decoder(torch.cat([h, z.flatten(-2)], dim=-1))
        answers = self.answers(hidden)
        return Decoded(answers[..., :-1], answers[..., -1], self.reward(hidden).squeeze(-1))
