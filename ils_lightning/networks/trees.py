"""The two networks of a latent-tree model of ListOps: one guesses whose argument a token is, the other computes.

A guess is told as "the k-th operator to the left", so that `[latents, categories]` is `[tokens, operators]` and a
category means the same at every place. `Layout` holds what follows from the tokens alone.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ils_lightning.data.expressions import CLOSE, FIRST_OPERATOR, OPERATORS, TOKENS

_DIGITS = 10


class Layout(NamedTuple):
    """What the tokens of a batch say without any guess.

    Attributes:
        slot: number of the operator at a place, counted from the left; `operators` where there is none,
            `[batch, tokens]`.
        candidate: slot of the operator that each category names, negative for none, `[batch, tokens, operators]`.
        choosing: whether a place is some operator's argument, `[batch, tokens]`.
    """

    slot: Tensor
    candidate: Tensor
    choosing: Tensor


def layout(tokens: Tensor, operators: int) -> Layout:
    """Lays out tokens `[batch, tokens]` with at most `operators` operators a row."""
    is_operator = (tokens >= FIRST_OPERATOR) & (tokens < CLOSE)
    to_the_left = is_operator.long().cumsum(dim=1) - is_operator.long()
    back = torch.arange(operators, device=tokens.device)
    return Layout(
        slot=torch.where(is_operator, to_the_left, operators),
        candidate=to_the_left.unsqueeze(-1) - 1 - back,
        choosing=(tokens < CLOSE) & (to_the_left > 0),
    )


class Parser(nn.Module):
    """Tokens to the logits of their operators, by attention between the states of a recurrent network.

    A token's operator is settled by what is left of it, so the network reads from left to right. At the start it
    prefers the nearest operator. Places without a choice have one category alone.

    Args:
        operators: categories.
        units: of the recurrent network.
    """

    def __init__(self, operators: int, units: int) -> None:
        super().__init__()
        self.operators = operators
        self.embedding = nn.Embedding(TOKENS, units)
        self.recurrent = nn.GRU(units, units, batch_first=True)
        self.query, self.key = nn.Linear(units, units), nn.Linear(units, units)
        self.recency = nn.Parameter(-0.5 * torch.arange(operators))

    def forward(self, tokens: Tensor, place: Layout) -> Tensor:
        """Returns logits `[batch, tokens, operators]`."""
        states, _ = self.recurrent(self.embedding(tokens))
        keys = _at_slots(self.key(states), place.slot, self.operators)
        scores = self.query(states) @ keys.mT / math.sqrt(keys.shape[-1])
        scores = scores.gather(-1, place.candidate.clamp(min=0)) + self.recency
        scores = scores.masked_fill((place.candidate < 0) | ~place.choosing.unsqueeze(-1), -math.inf)
        first = torch.arange(self.operators, device=tokens.device) == 0
        return scores.masked_fill(~place.choosing.unsqueeze(-1) & first, 0.0)


class Sine(nn.Module):
    """The sine of each unit."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


class Executor(nn.Module):
    """Computes an expression along arcs from tokens to operators, with one network for all operators.

    An operator's value is a distribution over ten digits, computed from how often it has each digit for argument;
    values pass along the arcs `rounds` times. The first layer has sines of random frequencies, by which sums modulo 10
    are learnt in hundreds of steps (Sitzmann et al., 2020, 2006.09661; with rectifiers it takes thousands).

    Args:
        operators: largest number of operators in an expression.
        units: of the two hidden layers.
        rounds: levels of nesting that are computed.
    """

    def __init__(self, operators: int, units: int, rounds: int) -> None:
        super().__init__()
        self.operators, self.rounds = operators, rounds
        first = nn.Linear(_DIGITS + len(OPERATORS), units)
        nn.init.normal_(first.weight)
        self.layers = nn.Sequential(first, Sine(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, _DIGITS))

    def forward(self, z: Tensor, tokens: Tensor, place: Layout) -> Tensor:
        """Returns the log-probabilities of the value, `[samples, batch, 10]`, for arcs `[samples, batch, tokens, K]`.

        Differentiable in z: an arc of weight w counts w times.
        """
        number = self.operators
        slots = functional.one_hot(place.slot, number + 1)[..., :number].to(z)
        digits = functional.one_hot(tokens.clamp(max=_DIGITS), _DIGITS + 1)[..., :_DIGITS].to(z)
        kinds = functional.one_hot((tokens - FIRST_OPERATOR).clamp(0, len(OPERATORS) - 1), len(OPERATORS)).to(z)
        named = functional.one_hot(place.candidate.clamp(min=0), number).to(z)
        named = named * ((place.candidate >= 0) & place.choosing.unsqueeze(-1)).unsqueeze(-1)
        arcs = torch.einsum("sbnk,bnko->sbon", z, named)
        arguments = arcs @ torch.cat([digits, slots], dim=-1)  # of each operator: digits, and other operators
        of_digits, of_operators = arguments.split([_DIGITS, number], dim=-1)
        kind = _at_slots(kinds, place.slot, number).expand(len(z), -1, -1, -1)
        return self._compute(of_digits, of_operators, kind)[..., 0, :].log_softmax(dim=-1)

    def _compute(self, of_digits: Tensor, of_operators: Tensor, kind: Tensor) -> Tensor:
        """Returns the logits of every operator's value, `[samples, batch, operators, 10]`."""
        answer = self.layers(torch.cat([of_digits, kind], dim=-1))
        for _ in range(self.rounds - 1):
            counts = of_digits + of_operators @ answer.softmax(dim=-1)
            answer = self.layers(torch.cat([counts, kind], dim=-1))
        return answer


def _at_slots(values: Tensor, slot: Tensor, operators: int) -> Tensor:
    """Gathers values `[batch, tokens, width]` of the operators: `[batch, operators, width]`."""
    empty = values.new_zeros(len(values), operators + 1, values.shape[-1])
    return empty.scatter_add(1, slot.unsqueeze(-1).expand_as(values), values)[:, :operators]
