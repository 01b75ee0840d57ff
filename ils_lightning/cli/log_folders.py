"""Folders of logs that belong to one run, however many are started at a time."""

from itertools import count
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from ils_lightning import atomic
from ils_lightning.numbered import is_made


def claim(logger: Logger) -> Path | None:
    """Makes the folder that a logger will write to, and returns it if it is new.

    Lightning looks for a free number when training starts and makes the folder later: runs that are started together
    would share it. Here the number belongs to who made its folder. What killed runs left half-written is removed.
    """
    if not isinstance(logger, TensorBoardLogger | CSVLogger) or "://" in str(logger.root_dir):
        return None
    if logger._version is not None:
        return folder if is_made(folder := _version_folder(logger)) else None
    for earlier in Path(logger.root_dir).glob("version_*"):
        for folder in (earlier, earlier / "checkpoints"):
            atomic.remove_abandoned(folder)
    for number in count(logger._get_next_version()):
        logger._version = number
        if is_made(folder := _version_folder(logger)):
            return folder
    return None


def _version_folder(logger: TensorBoardLogger | CSVLogger) -> Path:
    below = len(Path(getattr(logger, "sub_dir", None) or "").parts)
    return [Path(logger.log_dir), *Path(logger.log_dir).parents][below]
