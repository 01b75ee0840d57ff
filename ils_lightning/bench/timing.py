"""Interleaved timings: on a machine that does other work as well, only ratios within one run can be trusted.

Every repeat runs all methods one after the other, so that a change of the machine's speed meets all alike. A method's
ratio to the reference is taken within each repeat; the median over repeats is what is reported.
"""

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Work = Callable[[], object]

LEAST = 2e-3  # seconds that one timing takes at least, by repeating the call
STEADY = 2e-2  # the same where what the method before left in the caches must not count
BETWEEN = 2**21  # float32 numbers that are passed over before a cold call: 8 MB, as a network of this many weights


@dataclass
class Timing:
    """What one method took in every repeat.

    Attributes:
        wall: seconds a call.
        cpu: seconds of the process's processors a call, all threads together.
    """

    wall: list[float]
    cpu: list[float]

    def seconds(self) -> float:
        """Returns the median wall time of a call."""
        return statistics.median(self.wall)

    def ratio(self, reference: "Timing", clock: str = "wall") -> float:
        """Returns the median over repeats of this method's time divided by the reference's in the same repeat."""
        pairs = zip(getattr(self, clock), getattr(reference, clock), strict=True)
        return statistics.median(own / other for own, other in pairs if other > 0)


def interleaved(
    work: Mapping[str, Work], repeats: int, device: torch.device, least: float = LEAST
) -> dict[str, Timing]:
    """Times every method `repeats` times in turns, after a warm-up that also settles the calls of one timing.

    Args:
        work: by name, what to time.
        repeats: turns.
        device: waited for before a clock is read.
        least: seconds of one timing.
    """
    calls = {name: _calls(call, device, least) for name, call in work.items()}
    found = {name: Timing([], []) for name in work}
    for _ in range(repeats):
        for name, call in work.items():
            wall, cpu = _time(call, calls[name], device)
            found[name].wall.append(wall / calls[name])
            found[name].cpu.append(cpu / calls[name])
    return found


def cold(work: Mapping[str, Work], repeats: int, device: torch.device) -> dict[str, Timing]:
    """Times every method `repeats` times in turns, one call a turn and each after other work, as in a training step.

    The others of the turn have been called before it, in an order that is shuffled anew for each turn, and then memory
    of its own was passed over.

    Args:
        work: by name, what to time.
        repeats: turns.
        device: waited for before a clock is read.
    """
    other = torch.zeros(BETWEEN, device=device)
    order, generator = list(work), random.Random(0)
    found = {name: Timing([], []) for name in work}
    for turn in range(-1, repeats):
        generator.shuffle(order)
        for name in order:
            other.add_(1)
            wall, cpu = _time(work[name], 1, device)
            if turn >= 0:  # the first warms up
                found[name].wall.append(wall)
                found[name].cpu.append(cpu)
    return found


def wait(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _calls(call: Work, device: torch.device, least: float) -> int:
    for _ in range(3):
        call()
    once, _ = _time(call, 1, device)
    return max(1, round(least / max(once, 1e-7)))


def _time(call: Work, calls: int, device: torch.device) -> tuple[float, float]:
    wait(device)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(calls):
        call()
    wait(device)
    return time.perf_counter() - wall, time.process_time() - cpu
