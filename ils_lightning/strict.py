"""Which classes a configuration may name.

A `class_path` is imported, and then called with its `init_args`: a configuration, or a checkpoint that holds one, can
do whatever any installed function does. Names that run commands, write files or open connections by themselves are
never accepted. Strict mode accepts nothing but the parts of this package and the few of torch and Lightning that a run
is made of, and refuses every other name before it is imported.
"""

import os

from ils_lightning.errors import Refusal

VARIABLE = "ILS_LIGHTNING_STRICT"
"""Environment variable that switches strict mode on (1) or off (0, or not set)."""

_PARTS = ("callbacks", "compare", "data", "estimators", "likelihoods", "losses", "modules", "networks", "variables")
_LIGHTNING = ("accelerators", "callbacks", "plugins", "profilers", "strategies")
_LOGGERS = ("TensorBoardLogger", "CSVLogger", "tensorboard.TensorBoardLogger", "csv_logs.CSVLogger")
ALLOWED = (
    *(f"ils_lightning.{part}" for part in _PARTS),
    "torch.optim",
    *(f"lightning.pytorch.{part}" for part in _LIGHTNING),
    *(f"lightning.pytorch.loggers.{logger}" for logger in _LOGGERS),  # the others send what they log elsewhere
    "lightning.pytorch.cli.ReduceLROnPlateau",
    "lightning.pytorch.trainer.trainer.Trainer",
    "lightning.Trainer",
    "lightning.fabric.plugins",
)
"""What strict mode accepts: these names and all below them."""


def is_on() -> bool:
    """Whether this process is strict.

    Raises:
        ValueError: when the environment variable is neither 0 nor 1.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise Refusal(f"{VARIABLE} must be 0 or 1; given {value!r}")
    return value == "1"


def switch_on() -> None:
    """Makes this process strict, and every process that it starts; there is no way back."""
    os.environ[VARIABLE] = "1"
    enforce()


def enforce() -> None:
    """Tells the parser which names to refuse, those of strict mode if it is on."""
    from jsonargparse import set_parsing_settings

    if is_on():
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(ALLOWED))
    else:
        set_parsing_settings(import_path_denylist=[])  # the parser's own list, which it would only warn of


def accepts(path: str) -> bool:
    """Whether strict mode accepts the class of this dotted path.

    Example:
        >>> accepts("torch.optim.Adam"), accepts("os.system"), accepts("ils_lightning.estimatorsx.A")
        (True, False, False)
    """
    return any(path == allowed or path.startswith(f"{allowed}.") for allowed in ALLOWED)


def refusal(path: str) -> str:
    """Says why the class of this path is not accepted."""
    if is_on() and not accepts(path):
        return (
            f"{path!r} is refused in strict mode, which accepts parts of ils_lightning, and optimisers, schedulers, "
            "callbacks, loggers and strategies of torch and Lightning"
        )
    return f"{path!r} is refused: a configuration may not name what runs commands, writes files or opens connections"
