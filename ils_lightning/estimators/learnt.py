"""State that pools over rows, steps and ranks: buffers read before they are updated."""

from collections.abc import Callable
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ils_lightning.errors import Refusal
from ils_lightning.estimators.categorical import plain_call
from ils_lightning.estimators.distributed import rank_of_ranks, sums_over_ranks
from ils_lightning.estimators.usual import judge, nothing_seen

GOLDEN = (5**0.5 - 1) / 2
ALL_OF_THE_FIRST = 8
"""Times the gap between steps that are learnt from: after so many steps the gap grows by one."""

_readings: WeakKeyDictionary[nn.Module, tuple[list[Tensor], list[Any], Any]] = WeakKeyDictionary()
"""Statistics, what else a reading depends on, and the reading: beside the modules, so that no copy takes them along."""


class Learnt(nn.Module):
    """State pooled over rows, steps and ranks, read before it is updated; subclasses say what they keep.

    The statistics are float64 buffers, made by `build` or at first use; a saved state can be loaded before either. A
    step that is not finite on every rank teaches nothing, nor does one out of all proportion (see `usual`).
    """

    statistics: ClassVar[tuple[str, ...]]
    """Names of the buffers."""
    latent_axis: ClassVar[dict[str, int]] = {}
    """The axis along which a statistic has latents, where that is not the first."""
    decay: float
    every: int = 1
    """Learns from one step in so many, once it knows something: see `due`."""
    steps: int = 0
    """Counted while training, where `every` is above 1."""
    recent: Tensor
    level: Tensor

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        """Returns the shape of each statistic."""
        raise NotImplementedError(f"{type(self).__name__} must define shapes(latents, categories)")

    def learn(self, *sums: Tensor) -> tuple[Tensor, ...]:
        """Returns the statistics after a step with these sums over rows and ranks: exponential moving sums."""
        each = zip(self.statistics, sums, strict=True)
        return tuple(torch.add(new, getattr(self, name), alpha=self.past) for name, new in each)

    @property
    def gap(self) -> int:
        """The mean distance of the steps that are learnt from: it grows from 1 to `every`."""
        return min(self.every, max(1, self.steps // ALL_OF_THE_FIRST))

    @property
    def past(self) -> float:
        """Weight of the past in what is learnt now: the root weighs fewer rows against what has changed since."""
        return self.decay**self.gap**0.5

    def due(self) -> bool:
        """Counts a step, and says whether to learn from it: from each of the first, later from one in `every`.

        The golden ratio spreads the chosen steps evenly over whatever comes round, such as the steps of a recurrence.
        """
        if self.every == 1 or not plain_call():  # a compiled program would be made anew for every count
            return True
        self.steps += 1
        return self.steps * GOLDEN % 1 * self.gap < 1

    def reading(self, *given: Any, make: Callable[[], Any]) -> Any:
        """What `make` reads from the statistics (and `given`), made anew only where these have changed."""
        states = [getattr(self, name) for name in self.statistics]
        if not plain_call() or any(state.is_inference() for state in states):
            return make()
        rest = [*(state._version for state in states), *given]
        before, known, found = _readings.get(self, ([], None, None))
        if known != rest or any(x is not y for x, y in zip(before, states, strict=True)):
            found = make()
            _readings[self] = states, rest, found
        return found

    def declare(self, decay: float) -> None:
        """Checks `decay` and registers the statistics, still without a size."""
        if not 0 <= decay < 1:
            raise Refusal(f"{type(self).__name__}: decay must be in [0, 1); given {decay}")
        self.decay = decay
        for name in (*self.statistics, "recent", "level"):
            self.register_buffer(name, None)

    def build(self, latents: int, categories: int) -> None:
        for name, shape in zip(self.statistics, self.shapes(latents, categories), strict=True):
            setattr(self, name, torch.zeros(shape, dtype=torch.float64))
        self.recent, self.level = nothing_seen(self.parts(latents))

    def parts(self, latents: int) -> int:
        """Number of sizes by which steps are judged: that of each latent's gradient, unless overridden."""
        return latents

    def prepare(self, pi: Tensor) -> None:
        """Builds the state at first use, and brings it to the device of `pi` `[*batch, latents, categories]`.

        Raises:
            ValueError: when the state was built for another problem.
        """
        if getattr(self, self.statistics[0]) is None:
            self.build(*pi.shape[-2:])
        first = getattr(self, self.statistics[0])
        if first.shape != self.shapes(*pi.shape[-2:])[0]:
            raise Refusal(
                f"{type(self).__name__} learns about one problem, so each layer needs its own instance. Its state has "
                f"shape {list(first.shape)}; given latents x categories = {list(pi.shape[-2:])}"
            )
        if first.device != pi.device:
            self.to(pi.device)

    def update(self, squares: Tensor, *sums: Tensor) -> None:
        """Learns from one step's sums over the rows of this rank.

        Args:
            squares: sums of what the step's size is the root mean square of, and their number `[2, parts]`.
            sums: what `learn` takes.
        """
        _, ranks = rank_of_ranks()
        squares, *total = sums_over_ranks(*(x.double() if ranks > 1 else x for x in (squares, *sums)))
        sound = torch.stack([x.sum() for x in total]).sum() * 0 == 0  # neither inf nor NaN in any
        keep, take = judge(self.recent, self.level, (squares[0] / squares[1]).sqrt(), self.past, sound)
        if keep is take:  # all of them, as nearly always: the same in fewer passes
            for name, new in zip(self.statistics, self.learn(*total), strict=True):
                getattr(self, name).copy_(new)
            return
        for name in self.statistics:
            state = getattr(self, name)
            state.copy_(torch.where(self._along(keep, name), state, 0))
        for name, new in zip(self.statistics, self.learn(*total), strict=True):
            state = getattr(self, name)
            state.copy_(torch.where(self._along(take, name), new, state))

    def _along(self, mask: Tensor, name: str) -> Tensor:
        """A mask `[parts]` as it broadcasts against a statistic, whose latents' axis holds blocks of equal size."""
        shape, axis = getattr(self, name).shape, self.latent_axis.get(name, 0)
        return mask.repeat_interleave(shape[axis] // len(mask)).reshape(-1, *(1,) * (len(shape) - axis - 1))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.every > 1 and getattr(self, self.statistics[0]) is not None:
            destination[prefix + "steps"] = torch.tensor(self.steps)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in (*self.statistics, "recent", "level"):
            saved = state_dict.get(prefix + name)
            if saved is not None and getattr(self, name) is None:
                setattr(self, name, torch.zeros_like(saved))
        self.steps = int(state_dict.pop(prefix + "steps", 0))  # not there where every step was learnt from
        first = state_dict.get(prefix + self.statistics[0])
        if first is not None and prefix + "recent" not in state_dict:  # saved before steps were judged by their size
            axis = self.latent_axis.get(self.statistics[0], 0)
            seen = nothing_seen(self.parts(first.shape[axis]))
            self.recent, self.level = (x.to(first.device) for x in seen)
            state_dict |= {prefix + "recent": self.recent, prefix + "level": self.level}
        super()._load_from_state_dict(state_dict, prefix, *args)
