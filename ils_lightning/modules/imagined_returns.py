"""Rollouts of a policy inside a world model, and what they are worth.

    V_t = critic(s_t),   R_t = r_{t+1} + discount c_{t+1} ((1 - trace) V_{t+1} + trace R_{t+1}),   R_H = V_H
    w_t = discount^t c_1 .. c_t:  how much of step t is still there;   c: probability that the episode goes on

Source: D. Hafner et al., Mastering Atari with Discrete World Models, 2021, 2010.02193.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Worth(NamedTuple):
    """Of every step before the last of a rollout, `[steps, *batch]`."""

    returns: Tensor
    weights: Tensor


def worth(reward: Tensor, goes_on: Tensor, values: Tensor, discount: float, trace: float) -> Worth:
    """Returns what the steps of rollouts are worth, and how much they count.

    Args:
        reward: expected at each imagined step `[steps, *batch]`.
        goes_on: probability that the episode goes on after it, alike.
        values: the critic's, of the start and of each imagined step `[steps + 1, *batch]`.
        discount: what a reward loses with each step.
        trace: weight of the imagined rewards beside the critic's values.

    Example:
        With a discount and a trace of 1 a return is the sum of rewards while the episode lasts, and the last value.

        >>> one = torch.ones(3, 1)
        >>> worth(one, torch.tensor([[1.0], [0.5], [1.0]]), torch.zeros(4, 1), discount=1.0, trace=1.0)
        Worth(returns=tensor([[2.5000], [1.5000], [1.0000]]), weights=tensor([[1.0000], [1.0000], [0.5000]]))
    """
    kept = discount * goes_on
    found, after = [], values[-1]
    for step in reversed(range(len(reward))):
        after = reward[step] + kept[step] * ((1 - trace) * values[step + 1] + trace * after)
        found.append(after)
    weights = torch.cat([torch.ones_like(kept[:1]), kept[:-1]]).cumprod(dim=0)
    return Worth(torch.stack(found[::-1]), weights)
