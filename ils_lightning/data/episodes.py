"""Episodes for world models: sequences of steps in which an episode follows where one ends."""

from typing import Any, NamedTuple

from torch import Generator, Tensor

from ils_lightning.data.split_data import SplitData
from ils_lightning.errors import require_at_least


class Episodes(NamedTuple):
    """A batch of sequences, each of episodes that follow each other.

    `observation` is float `[batch, length, observed]`; `action` int64 `[batch, length]` is what was done before it, 0
    at an episode's first step; `first` bool `[batch, length]` marks these; `goes_on` float `[batch, length]` is 0 at an
    episode's last step, else 1; `reward` float `[batch, length]` is 1 where a step is rewarded, else 0.
    """

    observation: Tensor
    action: Tensor
    first: Tensor
    goes_on: Tensor
    reward: Tensor


class EpisodeSet:
    """The sequences of one split.

    Args:
        episodes: all of them, as one batch.
    """

    def __init__(self, episodes: Episodes) -> None:
        self.episodes = episodes

    def __len__(self) -> int:
        return len(self.episodes.action)

    def batch(self, index: Tensor | slice, noise: Generator | None = None) -> Episodes:
        """Returns the sequences at `index`; nothing about them is random."""
        del noise
        return Episodes(*(part[index] for part in self.episodes))


class EpisodeSplits(NamedTuple):
    """Sequences to learn from, and those that are held out."""

    train: EpisodeSet
    val: EpisodeSet
    test: EpisodeSet


class EpisodeData(SplitData):
    """The base of DataModules of recorded episodes. Subclasses define `splits` and `observed_and_actions`.

    Args:
        sizes: sequences to learn from, for validation (0 for none) and for the test.
        length: steps of a sequence.
        batch_size: sequences a step and rank.
        seed: of the episodes, and of the order of training sequences.

    Raises:
        ValueError: when a size is out of range.
    """

    _abstract = True

    called = "sequences"
    splits: EpisodeSplits

    def __init__(self, sizes: tuple[int, int, int], length: int, batch_size: int, seed: int) -> None:
        super().__init__(batch_size, seed)
        train, validation, test = sizes
        require_at_least(1, type(self).__name__, train=train, test=test)
        require_at_least(0, type(self).__name__, validation=validation)
        require_at_least(2, type(self).__name__, length=length)
        self.sizes, self.length = sizes, length

    @property
    def observed_and_actions(self) -> tuple[int, int]:
        """How many numbers are observed, and how many actions there are."""
        raise NotImplementedError(f"{type(self).__name__} must define observed_and_actions")

    def split(self, episodes: Episodes) -> EpisodeSplits:
        """Returns all sequences in their three parts."""
        parts: Any = zip(*(part.split(self.sizes) for part in episodes), strict=True)
        return EpisodeSplits(*(EpisodeSet(Episodes(*part)) for part in parts))

    def told(self) -> str:
        """How many sequences there are, and ends of episodes in them, for `summary`."""
        train, val, test = (f"{size:,}" for size in self.sizes)
        ends = sum(float((1 - part.episodes.goes_on).sum()) for part in self.splits)
        return f"{train} train, {val} validation, {test} test of {self.length} steps, with {ends:,.0f} ends of episodes"
