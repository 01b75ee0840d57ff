"""State that pools over rows, steps and ranks: buffers read before they are updated."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ils_lightning.errors import Refusal
from ils_lightning.estimators.distributed import sum_over_ranks
from ils_lightning.estimators.usual import judge, nothing_seen


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
    recent: Tensor
    level: Tensor

    def shapes(self, latents: int, categories: int) -> tuple[tuple[int, ...], ...]:
        """Returns the shape of each statistic."""
        raise NotImplementedError(f"{type(self).__name__} must define shapes(latents, categories)")

    def learn(self, *sums: Tensor) -> tuple[Tensor, ...]:
        """Returns the statistics after a step with these sums over rows and ranks: exponential moving sums."""
        return tuple(self.decay * getattr(self, name) + new for name, new in zip(self.statistics, sums, strict=True))

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
        squares, *total = [sum_over_ranks(x.double()) for x in (squares, *sums)]
        sound = torch.stack([torch.isfinite(x).all() for x in total]).all()
        keep, take = judge(self.recent, self.level, (squares[0] / squares[1]).sqrt(), self.decay, sound)
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

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in (*self.statistics, "recent", "level"):
            saved = state_dict.get(prefix + name)
            if saved is not None and getattr(self, name) is None:
                setattr(self, name, torch.zeros_like(saved))
        first = state_dict.get(prefix + self.statistics[0])
        if first is not None and prefix + "recent" not in state_dict:  # saved before steps were judged by their size
            axis = self.latent_axis.get(self.statistics[0], 0)
            seen = nothing_seen(self.parts(first.shape[axis]))
            self.recent, self.level = (x.to(first.device) for x in seen)
            state_dict |= {prefix + "recent": self.recent, prefix + "level": self.level}
        super()._load_from_state_dict(state_dict, prefix, *args)
