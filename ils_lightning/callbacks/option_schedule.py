"""Any numeric option of an estimator on a schedule: temperature, step size, gap and so on.

trainer:
  callbacks:
    - class_path: OptionSchedule
      init_args:
        option: temperature
        schedule: {class_path: Exponential, init_args: {start: 1.0, end: 0.1, steps: 10000}}
"""

import difflib
from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from ils_lightning.callbacks.schedules import Schedule
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator
from ils_lightning.modules.base import Charts


class OptionSchedule(Callback):
    """Sets one option of an estimator before every training step and logs it as `option/<name>`.

    An option that is a whole number, such as the samples of `Average`, takes the schedule's value rounded.

    The value follows `trainer.global_step`, which a checkpoint restores. A module that takes several optimiser steps in
    one training step keeps one value for all of them.

    Args:
        option: name of an option of the model's `estimator`, or a dotted path inside the model such as
            `estimator.temperature` (the same) or `estimator.estimator.temperature` (inside `Average`).
        schedule: the values.

    Example:
        >>> from ils_lightning.callbacks import Cosine
        >>> callback = OptionSchedule("temperature", Cosine(start=1.0, end=0.1, steps=1000))
    """

    charts: ClassVar[Charts] = {"training": {"scheduled options": ["option/.+"]}}

    def __init__(self, option: str, schedule: Schedule) -> None:
        self.option, self.schedule = option, schedule
        self._logged: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets the first value, so that a wrong name or range is an error before any work is done."""
        self._logged = None
        self._set(pl_module, trainer.global_step)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        value = self._set(pl_module, trainer.global_step)
        every: int = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if self._logged is None or trainer.global_step - self._logged >= every:
            self._logged = trainer.global_step
            for logger in trainer.loggers:
                logger.log_metrics({f"option/{self.option}": value}, step=trainer.global_step)

    def _set(self, model: nn.Module, step: int) -> float:
        estimator, name = _find(model, self.option)
        value = self.schedule(step)
        if name in estimator.counts:
            value = estimator.whole(name, round(value), estimator.counts[name])
            setattr(estimator, name, value)
        else:
            estimator.option(name, value, *estimator.ranges[name])
        return value


def _find(model: nn.Module, option: str) -> tuple[Estimator, str]:
    """Returns the estimator that holds `option`, and the option's own name.

    Raises:
        ValueError: when there is none, or when the option holds one value per row.
    """
    known = _options(model)
    path = option if "." in option else f"estimator.{option}"
    if path not in known:
        _refuse_what_has_no_schedule(model, path)
        raise Refusal(f"OptionSchedule: the model has no option {option!r}{_suggestion(option, list(known))}")
    estimator, name = known[path]
    if isinstance(getattr(estimator, name), Tensor):
        raise Refusal(f"OptionSchedule sets one number, but {option!r} holds one value per row; give it a number")
    return estimator, name


def _refuse_what_has_no_schedule(model: nn.Module, path: str) -> None:
    """Raises where the option exists, but is learnt or fixed when the estimator is made."""
    owner, _, name = path.rpartition(".")
    estimator = dict(model.named_modules()).get(owner)
    if isinstance(estimator, Estimator) and not callable(getattr(estimator, name, print)):
        kind = "learnt in training" if isinstance(getattr(estimator, name), nn.Parameter) else "fixed for a whole run"
        raise Refusal(f"OptionSchedule: {name!r} of {type(estimator).__name__} is {kind}; it takes no schedule")


def _options(model: nn.Module) -> dict[str, tuple[Estimator, str]]:
    """Returns all numeric options of all estimators in `model`, by dotted path."""
    found = [(path, module) for path, module in model.named_modules() if isinstance(module, Estimator)]
    return {f"{path}.{name}": (e, name) for path, e in found for name in (*e.ranges, *e.counts)}


def _suggestion(option: str, known: list[str]) -> str:
    """Returns the end of the message: the nearest name, and all names as they may be written."""
    if not known:
        return ": its estimators have no numeric options"
    names = [path.removeprefix("estimator.") if path.count(".") == 1 else path for path in known]
    near = difflib.get_close_matches(option.rsplit(".", 1)[-1], [name.rsplit(".", 1)[-1] for name in names], n=1)
    meant = [name for name in names if near and name.rsplit(".", 1)[-1] == near[0]]
    hint = f", did you mean {meant[0]!r}?" if meant else "."
    return f"{hint} It has: {', '.join(names)}"
