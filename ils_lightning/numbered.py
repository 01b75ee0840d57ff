"""Folders that belong to one run or one report, however many are started at a time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path


def is_made(folder: Path) -> bool:
    """Makes a folder and those above it; whether it was not there before."""
    for _ in range(10):
        with suppress(FileNotFoundError):  # a refused run took away the folder above, which it had left empty
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                if folder.parent.is_dir():
                    return False
                raise
            return True
    folder.mkdir(parents=True)
    return True


def numbered(above: Path) -> Path:
    """Makes the folder version_N in `above`, N being the number after the highest there, and returns it."""
    taken = (one.name.removeprefix("version_") for one in above.glob("version_*"))
    first = max((int(number) for number in taken if number.isdecimal()), default=-1) + 1
    return next(folder for number in count(first) if is_made(folder := above / f"version_{number}"))


@contextmanager
def own_folder(named: Path | None, above: Path) -> Iterator[Path]:
    """Yields the folder `named`, or a new one in `above` where none is named.

    An error in the block leaves no folder behind that is empty and was not there before.
    """
    place = named or above
    made = [one for one in (place, *place.parents) if not one.exists()]
    if named is None:
        made.insert(0, folder := numbered(above))
    else:
        (folder := named).mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except BaseException:
        for one in made:
            with suppress(OSError):  # something is in it
                one.rmdir()
        raise
