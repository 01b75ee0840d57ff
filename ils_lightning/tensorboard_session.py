"""A run's line in TensorBoard's table of hyperparameters."""

from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ils_lightning.describe import in_words


def begin(writer: SummaryWriter, options: Mapping[str, Any]) -> None:
    """Writes the options of a run: numbers as they are, all else as text; what is None is left out.

    The list of columns that torch writes as well is left out: TensorBoard takes the first run's for all runs, and an
    option which that run does not have is then shown of none. Without it, every option of every run has a column, those
    that differ in front.
    """
    _, start, _ = hparams({name: _cell(value) for name, value in options.items() if value is not None}, {})
    writer._get_file_writer().add_summary(start)


def end(writer: SummaryWriter) -> None:
    """Writes that the run has ended well."""
    _, _, ended = hparams({}, {})
    writer._get_file_writer().add_summary(ended)


def _cell(value: Any) -> float | str:
    """What the table can hold.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> [_cell(value) for value in (4, 0.5, True, [1, 2], "sum", ReinMax(1.1))]
        [4, 0.5, 'true', '[1, 2]', 'sum', 'ReinMax(temperature=1.1)']
    """
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, int | float | str) else in_words(value)
