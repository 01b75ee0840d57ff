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
    _, start, _ = hparams({name: _cell(value) for name, value in line.items() if value is not None}, {})
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


def _cell(value: Any) -> float | str:
    """What the table can hold.

    Example:
        >>> from ils_lightning.describe import describe
        >>> from ils_lightning.networks import MLP
        >>> [_cell(value) for value in (4, 0.5, True, [1, 2], "sum", describe(MLP(hidden=[128])))]
        [4, 0.5, 'true', '[1, 2]', 'sum', 'MLP(hidden=[128])']
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict) and "class_path" in value:
        given = {name: _cell(one) for name, one in (value.get("init_args") or {}).items() if one is not None}
        return f"{value['class_path'].rsplit('.', 1)[-1]}({', '.join(f'{name}={one}' for name, one in given.items())})"
    return value if isinstance(value, int | float | str) else in_words(value)
