"""Peak memory of a piece of work, counted from its tensors: the same on every device and in every run."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Counts bytes of tensors made inside the block: `peak` is the most that were alive together, `total` all.

    Example:
        >>> with PeakMemory() as memory:
        ...     x = torch.zeros(1000) + 1
        >>> memory.peak
        8000
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = self.total = 0
        self._known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):
            self._known.add(storage)  # made before the block
        out = func(*args, **kwargs)
        for storage in _storages(out):
            if storage not in self._known:
                self._known.add(storage)
                self.total += storage.nbytes()
                self._count(storage.nbytes())
                weakref.finalize(storage, self._count, -storage.nbytes())
        return out

    def _count(self, size: int) -> None:
        self.alive += size
        self.peak = max(self.peak, self.alive)


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def fitting(budget: int, size: int, most: int) -> int:
    """Returns the largest power of two, from 1 to `most`, of pieces of `size` bytes that fit `budget`.

    Example:
        >>> fitting(budget=1000, size=100, most=64), fitting(budget=10, size=100, most=64)
        (8, 1)
    """
    count = max(1, min(most, budget // max(1, size)))
    return 1 << (count.bit_length() - 1)
