"""Sums over ranks, for estimators whose state pools over rows; the identity in a single process."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(value: Tensor) -> Tensor:
    """Adds `value` over all ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value


def sums_over_ranks(*values: Tensor) -> list[Tensor]:
    """Adds each of the values over all ranks, in one message; they come back in the widest of their types."""
    _, ranks = rank_of_ranks()
    if ranks == 1:
        return list(values)
    total = torch.cat([value.flatten() for value in values])
    dist.all_reduce(total)
    parts = total.split([value.numel() for value in values])
    return [part.view_as(value) for part, value in zip(parts, values, strict=True)]


def of_all_ranks(value: Any) -> list[Any]:
    """What each rank gives, in the order of ranks."""
    _, ranks = rank_of_ranks()
    found: list[Any] = [value] * ranks
    if ranks > 1:
        dist.all_gather_object(found, value)
    return found


def mean_over_rows(value: Tensor, counted: Tensor) -> Tensor:
    """Mean of the entries of `value` that are `counted`, on all ranks, which may hold unlike numbers; NaN for none."""
    total, count = sum_over_ranks(torch.stack([torch.where(counted, value, 0).double().sum(), counted.double().sum()]))
    return total / count


def rank_of_ranks() -> tuple[int, int]:
    """This process's rank and the number of ranks."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)
