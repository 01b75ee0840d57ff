"""Sums over ranks, for estimators whose state pools over rows; the identity in a single process."""

import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(value: Tensor) -> Tensor:
    """Adds `value` over all ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value


def mean_over_ranks(value: Tensor) -> Tensor:
    """Averages `value` over all ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    return sum_over_ranks(value) / dist.get_world_size()
