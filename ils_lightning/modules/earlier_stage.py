"""Models that learn on top of another one: the first stage, made of a checkpoint or of its settings."""

import pickle
import warnings
import zipfile
from typing import Any, TypeVar

import torch
from lightning import LightningModule

from ils_lightning import vetted
from ils_lightning.errors import Refusal
from ils_lightning.trainer_options import model_of

Kind = TypeVar("Kind", bound=LightningModule)


def earlier_stage(source: str | dict, kind: type[Kind], option: str, command: str) -> tuple[Kind, dict[str, Any]]:
    """Returns a model and what it was made with, of a checkpoint or of these settings.

    The settings are read from the file: under the command line, hparams of a model made inside another are the outer's.

    Args:
        source: path of a checkpoint, or settings; these give a model that has learnt nothing.
        kind: its class.
        option: where it was given, such as "CodePrior: tokenizer", for messages.
        command: what writes such a checkpoint, for messages.

    Raises:
        ValueError: when the file is no such checkpoint, or the settings are not those of `kind`.
    """
    if isinstance(source, dict):
        try:
            return kind(**source), source
        except TypeError as error:
            raise Refusal(f"{option}: these settings make no {kind.__name__}: {error}") from None
    checkpoint = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch makes of files of another kind
            checkpoint = torch.load(source, map_location="cpu", weights_only=True)
        saved = checkpoint["hyper_parameters"].items()
        settings = {name: value for name, value in saved if not name.startswith("_")}
        name = option.rpartition(" ")[2]
        vetted.part({"class_path": kind.__name__, "init_args": settings}, kind, name)
        model = kind(**settings)
        model.load_state_dict(checkpoint["state_dict"])
    except (OSError, EOFError, LookupError, TypeError, RuntimeError, AttributeError, pickle.UnpicklingError) as error:
        held = model_of(checkpoint) if isinstance(checkpoint, dict) else ""
        told = " ".join(str(error).split())[:200]
        if checkpoint is None and not isinstance(error, OSError):
            ours = isinstance(source, str) and zipfile.is_zipfile(source)
            told = f"it {'holds objects that are no plain data' if ours else 'is no file of weights that torch wrote'}"
        why = f"cannot be read as one: {told}"
        raise Refusal(
            f"{option} must be a checkpoint of a {kind.__name__}, as {command} writes; {source!r} "
            f"{why if held in ('', kind.__name__) else f'holds a {held}'}"
        ) from None
    return model, settings
