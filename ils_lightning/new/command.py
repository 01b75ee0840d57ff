"""`new`: decides on names and places, and writes all files or none."""

from pathlib import Path

from ils_lightning import atomic
from ils_lightning.errors import Refusal
from ils_lightning.new import parts
from ils_lightning.new.names import check_is_free, check_is_importable, names, public
from ils_lightning.new.parts import Kind, Part, Parts

_PACKAGES = {"estimator": "estimators", "module": "modules"}


def new(kind: Kind, name: str, folder: str | None = None) -> None:
    """Writes the starting files of an estimator or a module, which train and pass their tests at once.

    In a checkout of this project they become part of the package. Anywhere else they are three files side by side: the
    class, a configuration that trains it, and its tests. Nothing that exists is overwritten.

    Args:
        kind: estimator | module.
        name: of the class, such as MyEstimator or my_estimator.
        folder: where to write; the checkout that the current folder is in, or the current folder, unless given.
    """
    found = names(name)
    root = _root(folder)
    package = root / "ils_lightning" if parts.is_checkout(root) else Path(parts.__file__).parents[1]
    places = {one: f"ils_lightning.{where}" for where in _PACKAGES.values() for one in public(package / where)}
    check_is_free(found, places)
    made = parts.in_checkout(kind, root, found) if parts.is_checkout(root) else parts.alone(kind, root, found)
    _check_are_new(made)
    if not parts.is_checkout(root):
        check_is_importable(found)
    write(made)
    print(_told(made))


def _root(folder: str | None) -> Path:
    """Where to write: the folder given, else the checkout around the current one, else the current one."""
    if folder is not None:
        return Path(folder).expanduser().absolute()
    here = Path.cwd()
    return next((one for one in (here, *here.parents) if parts.is_checkout(one)), here)


def _check_are_new(made: Parts) -> None:
    there = [str(part.path.relative_to(made.root)) for part in made.new if part.path.exists()]
    if there:
        raise Refusal(
            f"nothing is overwritten, and {made.root} has {', '.join(there)} already: choose another name, or move it "
            "away"
        )


def write(made: Parts) -> None:
    """Writes all files or, where one cannot be written, leaves everything as it was."""
    before = {part.path: part.path.read_bytes() for part in made.changed}
    written: list[Part] = []
    try:
        for part in (*made.new, *made.changed):
            part.path.parent.mkdir(parents=True, exist_ok=True)
            written.append(part)
            atomic.write_text(part.text, part.path)
    except BaseException:
        for part in written:
            if part.path in before:
                part.path.write_bytes(before[part.path])
            else:
                part.path.unlink(missing_ok=True)
        raise


def _told(made: Parts) -> str:
    """What was written, with paths from the folder that holds all, and what to try next there."""
    every = {part: str(part.path.relative_to(made.root)) for part in (*made.new, *made.changed)}
    width = max(map(len, every.values()))
    lines = [] if made.root == Path.cwd() else [f"in {made.root}"]
    for title, some in (("written:", made.new), ("changed:", made.changed)):
        rows = [f"  {every[part]:<{width}}  {part.purpose}" for part in some]
        lines += [title, *rows] if rows else []
    return "\n".join([*lines, "next:", *(f"  {command}" for command in made.commands)])
