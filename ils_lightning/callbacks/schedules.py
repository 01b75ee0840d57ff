"""Schedules: the value of an option as a function of the training step; `OptionSchedule` applies them.

A schedule depends on the step alone, so a resumed run continues exactly where the first one stopped.
"""

import bisect
import itertools
import math

from ils_lightning.errors import Refusal


class Schedule:
    """Maps a step (0, 1, ...) to the value of an option."""

    def __call__(self, step: int) -> float:
        """Returns the value at `step`."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(step)")


class Constant(Schedule):
    """The same value at every step.

    Example:
        >>> Constant(0.5)(10)
        0.5
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, step: int) -> float:
        return self.value


class Ramp(Schedule):
    """Goes from `start` to `end` in `steps` steps and stays there; subclasses say by which curve.

    Args:
        start: value at step 0.
        end: value from step `steps` on.
        steps: length of the way, at least 1.
    """

    def __init__(self, start: float, end: float, steps: int) -> None:
        if steps < 1:
            raise Refusal(f"{type(self).__name__}: steps must be at least 1; given {steps}")
        self.start, self.end, self.steps = start, end, steps

    def __call__(self, step: int) -> float:
        return self.end if step >= self.steps else self.curve(step / self.steps)

    def curve(self, progress: float) -> float:
        """Returns the value at `progress` in [0, 1)."""
        raise NotImplementedError(f"{type(self).__name__} must define curve(progress)")


class Linear(Ramp):
    """A straight line from `start` to `end`; see `Ramp` for the arguments.

    Example:
        >>> Linear(start=1.0, end=0.0, steps=4)(1)
        0.75
    """

    def curve(self, progress: float) -> float:
        return self.start + (self.end - self.start) * progress


class Exponential(Ramp):
    """A constant factor a step, start (end / start)^progress; both ends must be positive.

    Example:
        >>> Exponential(start=1.0, end=0.01, steps=10)(5)
        0.1
    """

    def __init__(self, start: float, end: float, steps: int) -> None:
        super().__init__(start, end, steps)
        if start <= 0 or end <= 0:
            raise Refusal(f"Exponential: start and end must be positive; given {start} and {end}")

    def curve(self, progress: float) -> float:
        return self.start * (self.end / self.start) ** progress


class Cosine(Ramp):
    """Half a period of a cosine, flat at both ends; see `Ramp` for the arguments.

    Example:
        >>> round(Cosine(start=1.0, end=0.0, steps=4)(2), 6)
        0.5
    """

    def curve(self, progress: float) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2


class Milestones(Schedule):
    """One value after another, each from its step on.

    Args:
        start: value at step 0.
        values: what follows.
        steps: at which each of them begins, one after the other.

    Raises:
        ValueError: when there is not one step for each value, or they do not rise from 1.

    Example:
        >>> schedule = Milestones(start=1, values=[4, 8], steps=[100, 200])
        >>> [schedule(step) for step in (0, 99, 100, 250)]
        [1, 1, 4, 8]
    """

    def __init__(self, start: float, values: list[float], steps: list[int]) -> None:
        if len(values) != len(steps) or not values:
            raise Refusal(f"Milestones: values and steps must be as many, one or more; given {values} and {steps}")
        if any(later <= earlier for earlier, later in itertools.pairwise([0, *steps])):
            raise Refusal(f"Milestones: steps must be at least 1, each greater than the one before; given {steps}")
        self.values, self.steps = [start, *values], steps

    def __call__(self, step: int) -> float:
        return self.values[bisect.bisect(self.steps, step)]


class HalfLife(Schedule):
    """Halves the distance to `end` every `half_life` steps, for ever.

    Args:
        start: value at step 0.
        half_life: steps in which the distance halves; positive.
        end: the limit.

    Example:
        >>> HalfLife(start=1.0, half_life=100)(200)
        0.25
    """

    def __init__(self, start: float, half_life: float, end: float = 0.0) -> None:
        if half_life <= 0:
            raise Refusal(f"HalfLife: half_life must be positive; given {half_life}")
        self.start, self.half_life, self.end = start, half_life, end

    def __call__(self, step: int) -> float:
        return self.end + (self.start - self.end) * 0.5 ** (step / self.half_life)
