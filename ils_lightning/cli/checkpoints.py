"""What a checkpoint says about its run, and how that meets what was typed.

Lightning lets the hyperparameters of a checkpoint override the command line without a word, and tests untrained weights
where it finds no checkpoint. Here the checkpoint's settings lie *beneath* what was typed, every difference is told, and
evaluation needs a file.
"""

import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Set
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule

from ils_lightning import __version__, vetted
from ils_lightning.checkpoint_io import require_undamaged
from ils_lightning.cli.configs import option_values, options
from ils_lightning.cli.errors import fail, told_in_one_line
from ils_lightning.describe import describe, differences, short
from ils_lightning.errors import did_you_mean
from ils_lightning.modules.base import VERSION
from ils_lightning.type_hints import classes
from ils_lightning.vetted import KEY

SECTIONS = ("seed_everything", "model", "data", "trainer")
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    zipfile.BadZipFile,
    TypeError,
    AttributeError,
    OSError,
)
_KINDS = {"model": LightningModule, "data": LightningDataModule}
_SHARDED = ("meta.pt", ".metadata", "checkpoint", "latest")  # one of them is in a checkpoint that is a folder


def path_among(words: list[str]) -> str | None:
    """Returns the checkpoint named by `words` (verb first), or None.

    Exits where the verb needs one and none is named, or where there is no such file.
    """
    given = next((value for _, value in option_values(words, "--ckpt_path") if value != "null"), None)
    if given is None:
        if words[0] in ("fit", "diagnose") or _only_informs(words):
            return None
        fail(f"{words[0]} needs trained weights: give --ckpt_path FILE{_newest()}")
    if given in ("last", "best"):
        fail(f"--ckpt_path {given}: a new process has no {given} checkpoint of its own; name the file{_newest()}")
    if "://" not in given and not Path(given).exists():
        known = [str(path) for path in Path(given).parent.glob("*.ckpt")] if Path(given).parent.is_dir() else []
        fail(f"--ckpt_path: there is no file {given!r}{did_you_mean(given, known)}{'' if known else _newest()}")
    if Path(given).is_dir() and not any(Path(given, name).exists() for name in _SHARDED):
        fail(f"--ckpt_path: {given!r} is a folder that holds no sharded checkpoint{_newest()}")
    return given


def configuration(path: str, typed: Set[str] = frozenset()) -> dict[str, Any]:
    """Returns the configuration of the run that wrote the checkpoint; model settings alone from a foreign one.

    Args:
        path: of the checkpoint.
        typed: dotted names of the classes that the user named, and the options.
    """
    if not Path(path).is_file():
        return {}
    checkpoint = _load(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        fail(f"--ckpt_path: {path!r} is not a checkpoint of a LightningModule: it has no state_dict of weights by name")
    _note_version(checkpoint.get(VERSION))
    saved = _sections(path, checkpoint[KEY]) if KEY in checkpoint else {}
    settings = checkpoint.get("hyper_parameters", {})
    if not isinstance(settings, dict):
        fail(f"--ckpt_path: the hyper_parameters in {path!r} must be a mapping; they are {settings!r}")
    settings = {key: describe(value) for key, value in settings.items() if key != "_instantiator"}
    name = settings.pop("_class_path", None)
    made = _taken({"model": {"class_path": name, "init_args": settings}}, path, typed) if name else {}
    return _taken(saved, path, typed) if KEY in checkpoint else made


def of_another(saved: dict[str, Any], named: str) -> str:
    """Says so where a checkpoint is of a model of one kind, and the words name one of another kind; else nothing."""
    names = [one.rpartition(".")[-1] for one in ((saved.get("model") or {}).get("class_path", ""), named)]
    own, other = (classes(LightningModule, name) for name in names)
    if not own or not other or any(issubclass(a, b) or issubclass(b, a) for a in own for b in other):
        return ""
    return f"it is of a {names[0]}, and this run has a {names[1]}"


def _taken(settings: dict[str, Any], path: str, typed: Set[str]) -> dict[str, Any]:
    """Returns what is taken of a checkpoint's settings; exits where they ask for what no checkpoint may."""
    with told_in_one_line({RecursionError: lambda error: str(error)}, f"--ckpt_path: in {path!r}, "):
        taken = {name: vetted.part(settings[name], kind, name) for name, kind in _KINDS.items() if settings.get(name)}
        trainer, left_out = vetted.trainer(settings.get("trainer") or {}, typed)
    for name in (one for one in left_out if f"--trainer.{one}" not in typed):
        sys.stderr.write(f"note: trainer.{name} is not taken from a checkpoint, or not all of it; type it to have it\n")
    seed = settings.get("seed_everything")
    return taken | ({"trainer": trainer} if trainer else {}) | ({"seed_everything": seed} if seed is not None else {})


def _load(path: str) -> Any:
    """Returns what a file holds, weights and plain data."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch makes of files of another kind
            require_undamaged(Path(path))
            return torch.load(path, weights_only=True, map_location="cpu")
    except _UNREADABLE as error:
        reason = _not_of_torch(path) or _not_plain(str(error)) or str(error).strip().split("\n")[-1]
        fail(f"--ckpt_path: {path!r} is no checkpoint that can be loaded safely (weights and plain data): {reason}")


def _not_plain(report: str) -> str:
    """Says of which class an object is that is no plain data, and what lets it be loaded."""
    if (found := re.search(r"GLOBAL ([\w.]+)", report)) is None:
        return ""
    module, _, name = found[1].rpartition(".")
    return (
        f"it holds a {found[1]}. If that is yours, let {module or 'its module'} call "
        f"torch.serialization.add_safe_globals([{name}]), and name a class of that module, as by --model"
    )


def _not_of_torch(path: str) -> str:
    """Says so if a file is not of a kind that torch writes."""
    with Path(path).open("rb") as file:
        start = file.read(2)
    if not start:
        return "it is empty"
    return "" if start == b"PK" or start[:1] == b"\x80" else "it is no file that torch wrote"


def _sections(path: str, configuration: Any) -> dict[str, Any]:
    """Returns a checkpoint's configuration if it is one."""
    if not isinstance(configuration, dict):
        fail(f"--ckpt_path: the configuration in {path!r} must be a mapping; it is {configuration!r}")
    for name in configuration:
        if name not in SECTIONS:
            hint = did_you_mean(str(name), SECTIONS)
            fail(f"--ckpt_path: the configuration in {path!r} has an unknown section {name!r}{hint}")
    return serializable(configuration)


def serializable(settings: Any) -> Any:
    """Returns settings without those that the parser has no text for, such as a device: they keep their defaults.

    Example:
        >>> serializable({"swa_lrs": 0.1, "device": "Unable to serialize instance cpu"})
        {'swa_lrs': 0.1}
    """
    if isinstance(settings, list):
        return [serializable(one) if isinstance(one, dict | list) else one for one in settings]
    if not isinstance(settings, dict):
        return settings
    unknown = "Unable to serialize instance"
    known = {n: value for n, value in settings.items() if not (isinstance(value, str) and value.startswith(unknown))}
    return {n: serializable(value) if isinstance(value, dict | list) else value for n, value in known.items()}


def _note_version(written_by: Any) -> None:
    """Says so where another minor version wrote the checkpoint."""
    if isinstance(written_by, str) and written_by.split(".")[:2] != __version__.split(".")[:2]:
        sys.stderr.write(f"note: ils_lightning {written_by} wrote the checkpoint; this is {__version__}\n")


def report_differences(words: list[str], chosen: dict[str, Any], saved: dict[str, Any]) -> None:
    """Prints a note for every setting of model and data that the words (verb first) have otherwise than the checkpoint.

    It says where the setting comes from: it was typed, or is that of a --config.
    """
    notes = [
        f"note: {key} = {short(new)} {_origin(key, words)}; the checkpoint has {short(old)}"
        for part in ("model", "data")
        for key, new, old in differences(part, chosen.get(part), saved.get(part))
        if part in saved
    ]
    if words[0] == "fit":
        notes.append("note: the optimiser continues with the state, learning rate included, that the checkpoint holds")
    sys.stderr.writelines(f"{note}\n" for note in notes)


def _origin(key: str, words: list[str]) -> str:
    """Says where a setting was given that is not the checkpoint's."""
    files = [value for _, value in option_values(words, "--config", "-c")]
    named = {
        option.removeprefix("--").replace(".init_args", "").removesuffix(".class_path") for option in options(words)
    }
    named -= {"model", "data"} if files else set()  # a file's options of the same class hold beside these
    if not files or any(f"{key}.".startswith(f"{option}.") for option in named):
        return "as typed"
    return f"of {' and '.join(f'--config {file}' for file in files)}"


def _only_informs(words: list[str]) -> bool:
    return any(word in ("-h", "--help") or word.startswith(("--print_config", "--model.help")) for word in words)


def _newest() -> str:
    """Names the newest last.ckpt under lightning_logs, to be pasted."""
    found = sorted(Path("lightning_logs").glob("*/checkpoints/last*.ckpt"), key=lambda path: path.stat().st_mtime)
    return f"; the newest here: {found[-1]}" if found else ""
