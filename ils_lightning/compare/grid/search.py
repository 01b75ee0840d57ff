"""What `--tune` searches: ranges of configuration keys, and on which seeds they are judged."""

import math
from dataclasses import dataclass, field
from typing import Any

from ils_lightning.errors import Refusal


@dataclass
class Range:
    """The values a key may take.

    Args:
        low: the least.
        high: the largest.
        log: whether orders of magnitude are searched evenly, rather than values.

    Example:
        >>> Range(0.01, 1.0).place(0.1), Range(0.0, 2.0, log=False).place(0.5)
        (0.5, 0.25)
    """

    low: float
    high: float
    log: bool = True

    def __post_init__(self) -> None:
        if not self.low < self.high or not math.isfinite(self.high - self.low):
            raise Refusal(f"a range needs low < high, both finite; given {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise Refusal(f"a logarithmic range needs low > 0; given {self.low} (log: false searches values evenly)")

    def place(self, value: float) -> float:
        """Returns where in the range a value is: 0 at its low end, 1 at its high end."""
        scale = math.log if self.log else float
        return (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))

    def holds(self, value: Any) -> bool:
        """Whether `value` is a number in the range."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass
class Search:
    """How options are searched for each run and setting, on seeds that are not reported.

    Args:
        seeds: tuning seeds; a trial's score is the mean over them. None of them may be a reporting seed.
        measure: what to minimise, such as val/loss; that of the comparison unless given.
        change: dotted keys changed while tuning only, such as the number of validation images held out.
        ranges: dotted keys that every run searches, and their ranges; the learning rate unless given.
        at_once: trials of one run and setting that are trained at a time; each is proposed without knowing the others.
        seed: of the proposals.
    """

    seeds: list[int] = field(default_factory=lambda: [1000, 1001])
    measure: str | None = None
    change: dict[str, Any] = field(default_factory=dict)
    ranges: dict[str, Range] | None = None
    at_once: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or self.at_once < 1:
            raise Refusal(
                f"a search needs tuning seeds, each once, and at_once of at least 1; "
                f"given {self.seeds} and {self.at_once}"
            )
