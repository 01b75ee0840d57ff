"""How checkpoints reach the disk."""

import sys
import zipfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.plugins import TorchCheckpointIO

from ils_lightning import atomic
from ils_lightning.errors import Refusal, one_line


def require_undamaged(path: Path) -> None:
    """Checks a file that `torch.save` wrote against its own checksums, which torch does not look at.

    Raises:
        ValueError: when its content is not what was written.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if (name := file.testzip()) is not None:
                raise Refusal(f"{path} is damaged: {name.partition('/')[2]} is not what was written")


def set_aside(path: Path, why: BaseException, instead: str) -> None:
    """Renames a file (or a folder in its place) that cannot be used, and says so on the standard error."""
    names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in count())
    kept = next(name for name in names if not name.exists())
    with suppress(FileNotFoundError):  # another process did
        path.replace(kept)
    reason = type(why).__name__ if not isinstance(why, ValueError) else one_line(str(why))
    sys.stderr.write(f"note: {path} cannot be used ({reason}): it is kept as {kept.name}, and {instead}\n")


class CompleteCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place and moves them into it.

    Lightning's own writer puts them into the system's folder for temporary files first. Where that is another file
    system the move is a copy: a process killed meanwhile, or a full disk, leaves half a checkpoint in place of a good
    one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint to a local path; addresses of object stores are left to Lightning."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        atomic.save(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Reads a checkpoint that is what was written."""
        if "://" not in str(path):
            require_undamaged(Path(path))
        return super().load_checkpoint(path, *arguments, **options)


def use_complete_checkpoints(trainer: Trainer) -> None:
    """Makes `trainer` write complete checkpoints, unless its strategy has a way of its own."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = CompleteCheckpoints()
