"""Options that the Trainer takes without a word although no run can make sense of them."""

from lightning import Trainer

from ils_lightning.errors import Refusal

_LEAST = {"log_every_n_steps": 0, "accumulate_grad_batches": 1, "num_sanity_val_steps": -1}


def require_sensible(trainer: Trainer) -> None:
    """Checks what the Trainer does not check itself.

    Raises:
        ValueError: when an option is at fault; the text says which.
    """
    for name, least in _LEAST.items():
        if (value := getattr(trainer, name)) < least:
            raise Refusal(f"trainer.{name} must be at least {least}; given {value}")
