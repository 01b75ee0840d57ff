"""A run's line in TensorBoard's table of hyperparameters."""

from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ils_lightning.describe import Described, in_words, options


def begin(writer: SummaryWriter, line: Mapping[str, Any]) -> None:
    """Writes the options of a run: numbers as they are, all else as text; what is None is left out.

    The list of columns that torch writes as well is left out: TensorBoard takes the first run's for all runs, and an
    option which that run does not have is then shown of none. Without it, every option of every run has a column, those
    that differ in front.
    """
    _, start, _ = hparams(_cells(line), {})
    writer._get_file_writer().add_summary(start)


def end(writer: SummaryWriter) -> None:
    """Writes that the run has ended well."""
    _, _, ended = hparams({}, {})
    writer._get_file_writer().add_summary(ended)


def flat(name: str, value: Any) -> dict[str, Any]:
    """Returns an option on one level of names: a class counts by its bare name, its arguments by dotted names.

    Example:
        >>> from ils_lightning.estimators import LeaveOneOut
        >>> flat("estimator", LeaveOneOut()), flat("latents", 8)
        ({'estimator': 'LeaveOneOut', 'estimator.samples': 4}, {'latents': 8})
    """
    if isinstance(value, Described):
        value = {"class_path": type(value).__qualname__, "init_args": options(value)}
    if not isinstance(value, dict) or "class_path" not in value:
        return {name: value}
    found = {name: value["class_path"].rsplit(".", 1)[-1]}
    for option, one in (value.get("init_args") or {}).items():
        found |= flat(f"{name}.{option}", one)
    return found


def _cells(line: Mapping[str, Any]) -> dict[str, float | str]:
    """What the table holds of a line: numbers and text as they are, all else in words.

    Example:
        >>> from ils_lightning.describe import describe
        >>> from ils_lightning.networks import MLP
        >>> _cells({"latents": 4, "lr": 0.5, "fixed": True, "sizes": [1, 2], "network": describe(MLP(hidden=[128]))})
        {'latents': 4, 'lr': 0.5, 'fixed': 'true', 'sizes': '[1, 2]', 'network': 'MLP(hidden=[128])'}
    """
    found: dict[str, float | str] = {}
    for name, value in line.items():
        if isinstance(value, bool):
            found[name] = str(value).lower()
        elif isinstance(value, int | float | str):
            found[name] = value
        elif isinstance(value, dict) and "class_path" in value:
            given = [f"{option}={one}" for option, one in _cells(value.get("init_args") or {}).items()]
            found[name] = f"{value['class_path'].rsplit('.', 1)[-1]}({', '.join(given)})"
        elif value is not None:
            found[name] = in_words(value)
    return found
