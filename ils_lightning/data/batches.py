"""Passes over rows in memory: a batch is a slice, made at once."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from ils_lightning.errors import Refusal


class Rows(Protocol):
    """What is kept in memory: images, expressions or the like."""

    def __len__(self) -> int: ...

    def batch(self, index: Tensor | slice, noise: Generator | None = None) -> Any:
        """Returns what a model sees of the rows at `index`, drawn with `noise` if there is any."""


class Batches:
    """A finite loader over `Rows`, such as an `ImageSet`, which a Trainer takes in place of a DataLoader.

    Each of `ranks` processes gets its own share. Everything random is a function of (seed, epoch, rank, number of the
    batch), and a pass that was interrupted goes on where it stood. Shuffled passes give all ranks equally many batches
    of equal size, so the last incomplete batch is left out, another one each epoch. Passes in order show every row
    once: ranks get equally many batches, their last one holding what is left.

    Args:
        rows: what to show.
        batch_size: rows a batch and rank; a set with fewer makes one batch.
        seed: of the order and of the pixels drawn.
        epoch: number of the first pass; from there on passes are counted.
        wanted: answers how many batches of a pass are taken at most, so that a pass cut there counts as complete.
        shuffle: a new order each epoch, instead of the stored one with the same pixels drawn every time.
        draw: hand the rows noise to draw with, of images binary pixels, anew for each batch.
        rank: number of this process.
        ranks: how many there are.

    Raises:
        ValueError: when there are fewer rows than ranks.

    Example:
        >>> from ils_lightning.data.image_set import ImageSet
        >>> images = ImageSet(torch.zeros(10, 1, 8, 8, dtype=torch.uint8), torch.arange(10))
        >>> [len(batch.x) for batch in Batches(images, batch_size=4)]
        [4, 4, 2]
        >>> [len(batch.x) for batch in Batches(images, batch_size=4, shuffle=True)]
        [4, 4]
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        wanted: Callable[[], float] | None = None,
        shuffle: bool = False,
        draw: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if len(rows) < ranks:
            raise Refusal(f"every rank needs a row; given {len(rows)} for {ranks} ranks")
        self.rows, self.seed, self.shuffle, self.draw = rows, seed, shuffle, draw
        self.rank, self.ranks = rank, ranks
        self.share = len(rows) // ranks
        self.wanted_size, self.batch_size = batch_size, min(batch_size, self.share)
        self._wanted = wanted
        self._next = (epoch, 0)
        self._position = self._next

    def __len__(self) -> int:
        return self.share // self.batch_size if self.shuffle else -(-self.share // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        epoch, first = self._next
        if first >= (min(len(self), self._wanted()) if self._wanted else len(self)):
            epoch, first = epoch + 1, 0
        self._next = (epoch + 1, 0)
        order = self._order(epoch)
        for number in range(first, len(self)):
            self._position = (epoch, number + 1)
            yield self._batch(order, epoch, number)

    def state_dict(self) -> dict[str, Any]:
        """Returns the present pass and how many of its batches were handed out."""
        return dict(zip(("epoch", "batch"), self._position, strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lets the next pass go on where `state` was taken."""
        self._next = self._position = (state["epoch"], state["batch"])

    def _order(self, epoch: int) -> Tensor:
        """Indices of this rank's rows."""
        if not self.shuffle:
            return torch.arange(self.rank, len(self.rows), self.ranks)
        order = torch.randperm(len(self.rows), generator=generator(self.seed, epoch))
        return order[self.rank : self.share * self.ranks : self.ranks]

    def _batch(self, order: Tensor, epoch: int, number: int) -> Any:
        is_rest = not self.shuffle and number == len(self) - 1
        start = number * self.batch_size
        index = order[start:] if is_rest else order[start : start + self.batch_size]
        if self.draw and not self.shuffle:
            return self._drawn_alike(index)
        noise = generator(self.seed, epoch, self.rank, number) if self.draw else None
        return self.rows.batch(index, noise)

    def _drawn_alike(self, index: Tensor) -> Any:
        """Rows at ascending `index`, each with what a single process draws for it."""
        size = min(self.wanted_size, len(self.rows))
        number = index // size
        parts: list[Any] = []
        for block in number.unique().tolist():
            rows = torch.arange(block * size, min((block + 1) * size, len(self.rows)))
            drawn = self.rows.batch(rows, generator(self.seed, 0, 0, block))
            mine = index[number == block] - block * size
            parts.append(type(drawn)(*(values.index_select(0, mine) for values in drawn)))
        return type(parts[0])(*(torch.cat(part) for part in zip(*parts, strict=True)))


def generator(*numbers: int) -> Generator:
    """Returns random numbers that are a function of `numbers` alone."""
    return Generator().manual_seed(hash(numbers) % 2**63)
