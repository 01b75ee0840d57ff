"""A progress bar in optimiser steps, redrawn a few times a second at most; a few plain lines in a log file."""

import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from ils_lightning.callbacks.report import logged
from ils_lightning.errors import Refusal

_SHORTEST = 4  # letters of the bar itself
_LINES = 20  # of a fit, where the output is no terminal


class _Bar(Tqdm):
    """A bar of validate, test or predict: redrawn when `interval` has passed or all is done, and then taken away.

    Its name leaves out which of the loaders it is, for there is one.
    """

    def __init__(self, desc: str, interval: float, disable: bool, bar_format: str) -> None:
        self._interval, self._drawn = interval, float("-inf")
        super().__init__(
            desc=desc, disable=disable, leave=False, dynamic_ncols=True, file=sys.stdout, bar_format=bar_format
        )

    def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
        super().set_description((desc or "").removesuffix(" DataLoader 0"), refresh=False)

    def refresh(self, *args: Any, **kwargs: Any) -> bool | None:
        now = time.monotonic()
        if self.total is None or (now - self._drawn < self._interval and self.n != self.total):
            return False
        self._drawn = now
        return super().refresh(*args, **kwargs)


class StepProgress(TQDMProgressBar):
    """Shows one bar for the whole fit, in optimiser steps, with the quantities the module logs for it.

    Where the output is no terminal there are no bars: a fit writes a line after a validation, or after an epoch where
    there is none, at most twenty in all.

    Args:
        interval: least seconds between two drawings.
    """

    def __init__(self, interval: float = 0.2) -> None:
        super().__init__()
        if interval < 0:
            raise Refusal(f"StepProgress: interval must be at least 0 seconds; given {interval}")
        self.interval = interval
        self._drawn = float("-inf")
        self._written = 0

    @property
    def is_disabled(self) -> bool:
        """Whether there are no bars."""
        return super().is_disabled or not sys.stdout.isatty()

    def init_train_tqdm(self) -> Tqdm:
        return Tqdm(
            desc="steps",
            total=_total_steps(self.trainer),
            initial=self.trainer.global_step,
            disable=self.is_disabled,
            leave=True,
            dynamic_ncols=True,
            file=sys.stdout,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
        )

    def init_validation_tqdm(self) -> Tqdm:
        """A bar of its own for `validate`; inside a fit the one bar is enough."""
        return Tqdm(disable=True) if self.trainer.state.fn == "fit" else self._bar(self.validation_description)

    def init_test_tqdm(self) -> Tqdm:
        return self._bar(self.test_description)

    def init_predict_tqdm(self) -> Tqdm:
        return self._bar(self.predict_description)

    def _bar(self, name: str) -> Tqdm:
        return _Bar(name, self.interval, self.is_disabled, self.BAR_FORMAT)

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Names the epoch where a fit has a known number of several."""
        several = trainer.max_epochs is not None and trainer.max_epochs > 1 and trainer.max_steps < 0
        self.train_progress_bar.set_description(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}" if several else "steps", refresh=False
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now - self._drawn >= self.interval:
            self._drawn = now
            self._draw(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module)
        if not trainer.enable_validation:
            self._write_some(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._write_some(trainer, pl_module)

    def on_train_end(self, *_: Any) -> None:
        self._draw(self.trainer, self.trainer.lightning_module)
        super().on_train_end()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in metrics.items()}

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        bar = self.train_progress_bar
        if not bar.disable:
            bar.n = trainer.global_step
            _set_what_fits(bar, self.get_metrics(trainer, pl_module))
            bar.refresh()

    def _write_some(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes a line in place of the bar, once a twentieth of the fit."""
        step, total = trainer.global_step, _total_steps(trainer)
        due = total is None or step * _LINES // total > self._written * _LINES // total
        if sys.stdout.isatty() or not self.is_enabled or not due:
            return
        self._written = step
        chosen = self.get_metrics(trainer, pl_module) or logged(trainer)  # a module may choose none for the bar
        metrics = ", ".join(f"{name} {value}" for name, value in chosen.items())
        place = f"step {step:,}{f' of {total:,}' if total else ''}"
        print(f"{place}: {metrics}" if metrics else place, flush=True)


def _set_what_fits(bar: Tqdm, metrics: dict[str, Any]) -> None:
    """Shows as many of the quantities as the line has room for: tqdm would cut a number in its middle."""
    columns = bar.format_dict["ncols"]
    for count in reversed(range(len(metrics) + 1)):
        bar.set_postfix(dict(list(metrics.items())[:count]), refresh=False)
        line = bar.format_meter(**{**bar.format_dict, "ncols": None})  # with a bar of ten letters
        if columns is None or len(line) - 10 + _SHORTEST <= columns:
            return


def _total_steps(trainer: Trainer) -> int | None:
    """Optimiser steps of the whole fit, where they can be told."""
    if trainer.max_steps >= 0:
        return trainer.max_steps
    total = trainer.estimated_stepping_batches
    return int(total) if total != float("inf") else None
