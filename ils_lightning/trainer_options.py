"""What the Trainer is told and what it says: options that no run can make sense of, and its own refusals."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException

from ils_lightning import vetted
from ils_lightning.errors import Refusal, Told, cause, refusing

_LEAST = {"log_every_n_steps": 0, "accumulate_grad_batches": 1, "num_sanity_val_steps": -1}
_RESTORING = ("_restore_modules_and_callbacks", "restore_datamodule", "restore_training_state")


def require_sensible(trainer: Trainer) -> None:
    """Checks what the Trainer does not check itself.

    Raises:
        ValueError: when an option is at fault; the text says which.
    """
    for name, least in _LEAST.items():
        if (value := getattr(trainer, name)) < least:
            raise Refusal(f"trainer.{name} must be at least {least}; given {value}")


def not_installed(error: ModuleNotFoundError) -> str | None:
    """Says what a library asks for, if it does so on purpose; the interpreter's own error names a module."""
    return str(error) if error.name is None else None


@contextmanager
def refusing_trainers() -> Iterator[None]:
    """Turns what Lightning says of options of which it makes no Trainer into a refusal.

    An error of a part that was to be made for the Trainer, a callback of one's own say, passes.
    """
    with refusing({MisconfigurationException: _no_trainer, ModuleNotFoundError: not_installed}):
        try:
            yield
        except (ValueError, TypeError) as error:
            if isinstance(error, Refusal) or cause(error) is not error:
                raise
            raise Refusal(_no_trainer(error)) from error


def tell_what_it_refuses(trainer: Trainer) -> None:
    """Makes refusals of what Lightning says of a checkpoint, and of the number of batches, once it has them."""
    connector, loop = trainer._checkpoint_connector, trainer.fit_loop
    broken: Told = {Exception: partial(_not_restored, trainer)}
    for name in _RESTORING:
        setattr(connector, name, partial(_refusing, getattr(connector, name), broken))
    loop.setup_data = partial(_refusing, loop.setup_data, {ValueError: partial(_too_few_batches, trainer)})


def _refusing(step: Callable, told: Told, *args: Any, **kwargs: Any) -> Any:
    with refusing(told):
        return step(*args, **kwargs)


def _no_trainer(error: Exception) -> str:
    if "enable_checkpointing=False" in str(error):
        return "--trainer: checkpoints are switched off (a comparison keeps its own): leave out the callback that saves"
    return f"--trainer: no Trainer can be made of these options: {error}"


def _not_restored(trainer: Trainer, error: Exception) -> str | None:
    if isinstance(error, MisconfigurationException | OSError | MemoryError):
        return None
    saved = model_of(trainer._checkpoint_connector._loaded_checkpoint or {})
    here = type(trainer.lightning_module).__name__
    if isinstance(error, Refusal) and saved in ("", here):
        return None
    given = f" {str(trainer.ckpt_path)!r}" if trainer.ckpt_path else ""
    reason = f"it is of a {saved}, and this run has a {here}" if saved not in ("", here) else ""
    return f"--ckpt_path: the checkpoint{given} cannot be restored: {reason or f'{type(error).__name__}: {error}'}"


def model_of(checkpoint: Mapping[str, Any]) -> str:
    """The name of the class of which a checkpoint says that it was written by; nothing where it does not say."""
    found, settings = checkpoint.get(vetted.KEY), checkpoint.get("hyper_parameters")
    model = found.get("model") if isinstance(found, Mapping) else None
    for place, key in ((model, "class_path"), (settings, "_class_path")):
        if isinstance(place, Mapping) and place.get(key):
            return str(place[key]).rpartition(".")[-1]
    return ""


def _too_few_batches(trainer: Trainer, error: ValueError) -> str | None:
    """Lightning's own words where a validation was asked for after more batches than an epoch has."""
    interval = trainer.val_check_interval
    return str(error).strip() if isinstance(interval, int) and interval > trainer.fit_loop.max_batches else None
