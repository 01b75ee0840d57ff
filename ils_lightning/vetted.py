"""What is taken of a checkpoint's settings: plain data, and names of classes that are loaded by then.

A checkpoint comes from somewhere else, and its settings name classes that are called with arguments. A name counts only
if it is that of a loaded class derived from the type that is declared at its place. So a checkpoint imports nothing and
calls no function; of the Trainer it sets numbers and words, and callbacks that write into the run's folder alone.
Addresses, and arguments by which a callback would write elsewhere, are refused.
"""

import collections.abc
import re
import sys
from collections.abc import Iterator, Set
from inspect import signature
from pathlib import Path
from typing import Any, get_args, get_origin

from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ils_lightning.describe import Described
from ils_lightning.errors import Refusal
from ils_lightning.type_hints import bases, hints, leaves

Plain = dict[str, Any]

KEY = "configuration"
"""Where a checkpoint keeps the configuration of its run, as plain data."""

_FREE = Described | Optimizer | LRScheduler  # what may stand where any value may, in the settings of an inner model
_ROOTS = (Described, LightningModule, LightningDataModule, Callback, Optimizer, LRScheduler)
_UNRESOLVED = "a type that is not known"
_OPTIONS = (
    *("accelerator", "devices", "strategy", "precision", "sync_batchnorm", "use_distributed_sampler"),
    *("max_steps", "min_steps", "max_epochs", "min_epochs", "max_time", "overfit_batches", "fast_dev_run"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
    *("val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps", "log_every_n_steps"),
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "deterministic", "benchmark"),
    *("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "inference_mode", "detect_anomaly"),
    *("barebones", "reload_dataloaders_every_n_epochs", "enable_autolog_hparams", "logger"),
)
_DEFAULTS = {name: parameter.default for name, parameter in signature(Trainer).parameters.items()}
_CALLBACKS = (
    callbacks.DeviceStatsMonitor,
    callbacks.EarlyStopping,
    callbacks.GradientAccumulationScheduler,
    callbacks.LearningRateMonitor,
    callbacks.ModelCheckpoint,
    callbacks.ModelSummary,
    callbacks.RichModelSummary,
    callbacks.RichProgressBar,
    callbacks.StochasticWeightAveraging,
    callbacks.TQDMProgressBar,
    callbacks.Timer,
)
_WORD = re.compile(r"[\w:-]*")


def part(description: Any, kind: type, place: str) -> Plain:
    """Returns a checkpoint's description of a model or of data, of which nothing is downloaded.

    Args:
        description: what the checkpoint holds.
        kind: the type that is asked for.
        place: what to call it.

    Raises:
        ValueError: when it is no such description, or names what it may not.
    """
    found = _described(description, kind, place)
    if "download" in hints(_known(found["class_path"], (kind,), place)):
        found["init_args"] = {**found.get("init_args", {}), "download": False}
    return found


def trainer(options: Any, typed: Set[str]) -> tuple[Plain, list[str]]:
    """Returns those of a checkpoint's options of the Trainer that are taken, and the names of those that are not.

    Args:
        options: what the checkpoint holds.
        typed: dotted names of classes that the user named, which are taken wherever they are from.
    """
    if not isinstance(options, dict):
        raise Refusal(f"trainer must be a mapping; it is {options!r}")
    # null is a choice where it is not the Trainer's own: check_val_every_n_epoch=null counts batches over epochs
    given = {name: value for name, value in options.items() if name in _OPTIONS or value != _DEFAULTS.get(name)}
    taken = {name: value for name, value in given.items() if name in _OPTIONS and (value is None or _is_word(value))}
    if isinstance(listed := given.get("callbacks"), list):
        taken["callbacks"] = [kept for one in listed if (kept := _callback(one, typed)) is not None]
    return taken, [name for name in given if name not in taken or _count(taken[name]) < _count(given[name])]


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else 1


def _callback(description: Any, typed: Set[str]) -> Plain | None:
    """Returns the description of a callback of this package, of the few of Lightning's, or one that the user named."""
    name = description.get("class_path") if isinstance(description, dict) else None
    kind = _loaded(name, (Callback,)) if isinstance(name, str) else None
    if kind is None:
        return None
    if not (kind in _CALLBACKS or kind.__module__.startswith("ils_lightning.callbacks.") or name in typed):
        return None
    try:
        return _described(description, Callback, "trainer.callbacks", writes=True)
    except Refusal:
        return None


def _is_word(value: Any) -> bool:
    """Whether a value is a number, a word or a list of them: nothing that could be a path or a name of a class."""
    if isinstance(value, list):
        return all(map(_is_word, value))
    return isinstance(value, bool | int | float) or (isinstance(value, str) and _WORD.fullmatch(value) is not None)


def _described(description: Any, kind: Any, place: str, writes: bool = False) -> Plain:
    """Returns the description of an object of a class of this kind."""
    if not isinstance(description, dict) or not isinstance(description.get("class_path"), str):
        raise Refusal(f"{place} must be a mapping with a class_path; it is {description!r}")
    if others := set(description) - {"class_path", "init_args"}:
        raise Refusal(f"{place}: beside class_path stands init_args; it has {sorted(map(str, others))[0]!r}")
    of_class = _known(description["class_path"], tuple(bases(kind)), place)
    given, declared = description.get("init_args") or {}, hints(of_class)
    if not isinstance(given, dict) or not all(isinstance(name, str) and name.isidentifier() for name in given):
        raise Refusal(f"{place}: init_args must be a mapping of names to values; it is {given!r}")
    made = {
        name: _value(value, declared.get(name, _UNRESOLVED), f"{place}.{name}", writes) for name, value in given.items()
    }
    return {**description, "init_args": made}


def _value(value: Any, kind: Any, place: str, writes: bool) -> Any:
    """Returns an argument of the declared kind."""
    of_classes = tuple(bases(kind))
    if value is not None and not of_classes and _is_callable(kind):
        raise Refusal(f"{place}: a checkpoint names no function; it names {value!r}")
    if value is not None and writes and any(isinstance(one, type) and issubclass(one, Path) for one in leaves(kind)):
        raise Refusal(f"{place}: a checkpoint does not say where to write; it says {value!r}")
    if isinstance(value, dict) and "class_path" in value:
        return _described(value, kind if of_classes else _FREE, place, writes)
    if isinstance(value, dict):
        return _mapping(value, of_classes, place, writes)
    if isinstance(value, list | tuple):
        return [_value(one, kind, place, writes) for one in value]
    if isinstance(value, str):
        return _text(value, kind, place, writes)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise Refusal(f"{place} must be plain data; it is a {type(value).__name__}")


def _mapping(value: dict, of_classes: tuple[type, ...], place: str, writes: bool) -> Plain:
    if of_classes or not all(isinstance(name, str | int) for name in value):
        raise Refusal(f"{place} must be a mapping with a class_path; it is {value!r}")
    return {name: _value(one, Any, f"{place}.{name}", writes) for name, one in value.items()}


def _text(value: str, kind: Any, place: str, writes: bool) -> str:
    of_classes = tuple(bases(kind))
    names = str not in leaves(kind) or _WORD.fullmatch(value) is None
    if of_classes and names:
        _known(value, of_classes, place)
    if isinstance(kind, str) and not _is_word(value):
        raise Refusal(f"{place}: a checkpoint gives one word here; it gives {value!r}")
    if "://" in value:
        raise Refusal(f"{place}: a checkpoint names no address; it names {value!r}")
    if writes and (Path(value).is_absolute() or ".." in Path(value).parts or value.startswith("~")):
        raise Refusal(f"{place}: a checkpoint does not say where to write; it says {value!r}")
    return value


def _is_callable(kind: Any) -> bool:
    """Whether a function may stand there, in a list or mapping too."""
    if isinstance(kind, str):
        return "Callable" in kind
    inside = (argument for one in leaves(kind) for argument in get_args(one))
    here = any(one is collections.abc.Callable or get_origin(one) is collections.abc.Callable for one in leaves(kind))
    return here or any(_is_callable(one) for one in inside if get_origin(one) is not None)


def _known(name: str, of_classes: tuple[type, ...], place: str) -> type:
    if (found := _loaded(name, of_classes)) is None:
        kinds = " or ".join(kind.__name__ for kind in of_classes)
        raise Refusal(
            f"{place}: a checkpoint names no {kinds} but those that are known here; it names {name!r}. One of your own "
            "is known once you name it yourself: by --config with the run's config.yaml, to sample by --own, or in a "
            "program of your own by importing its module"
        )
    return found


def _loaded(name: str, of_classes: tuple[type, ...]) -> type | None:
    """Returns the class of this name, dotted or not, if it is loaded and derived from one of these."""
    module, _, last = name.rpartition(".")
    if not module:
        return next((kind for base in of_classes for kind in _below(base) if kind.__name__ == last), None)
    found = vars(sys.modules[module]).get(last) if module in sys.modules else None
    return found if isinstance(found, type) and issubclass(found, of_classes) and issubclass(found, _ROOTS) else None


def _below(base: type) -> Iterator[type]:
    yield base
    for child in base.__subclasses__():
        yield from _below(child)
