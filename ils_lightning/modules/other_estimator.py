"""A checkpoint in a model with another estimator: what that one had learnt is dropped, all else is kept."""

from collections.abc import Iterable
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from ils_lightning.describe import describe
from ils_lightning.estimators import Estimator

ESTIMATOR = "estimator"
"""Where a checkpoint keeps the description of the estimator it was written with."""
_STATES = ("state_dict", "current_model_state")  # the second is that of an averaged model's callback


def replace_other_estimator(model: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Puts the model's estimators, as they are, in the place of a checkpoint's that are others.

    Others are those of another class, and those of other options whose state does not fit. Parameters that estimators
    train leave the optimiser's state with them; the model's keep theirs.

    Args:
        model: with its networks made.
        checkpoint: changed in place.
    """
    own = describe(getattr(model, "estimator", None))
    old = checkpoint.get(ESTIMATOR, checkpoint.get("hyper_parameters", {}).get("estimator"))
    slots = _slots(model)
    if old is None or own is None or old == own or not slots:
        return
    fresh = {name: value for name, value in model.state_dict().items() if name.startswith(slots)}
    former = {name: value for name, value in checkpoint["state_dict"].items() if name.startswith(slots)}
    if _classes(old) == _classes(own) and _sizes(former) == _sizes(fresh):
        return
    for state in (checkpoint[name] for name in _STATES if name in checkpoint):
        for name in [name for name in state if name.startswith(slots)]:
            del state[name]
        state.update(fresh)
    if len(checkpoint.get("optimizer_states", [])) == 1:
        _keep_only_the_models(checkpoint["optimizer_states"][0], model, slots, checkpoint)
    if former or fresh:
        rank_zero_info(f"note: the state of {_name(old)} in the checkpoint is dropped; {_name(own)} starts fresh")


def _slots(model: nn.Module) -> tuple[str, ...]:
    """Beginnings of the names of what belongs to estimators that are not parts of others."""
    found: list[str] = []
    for name, part in model.named_modules(remove_duplicate=False):
        if isinstance(part, Estimator) and not name.startswith(tuple(found)):
            found.append(f"{name}.")
    return tuple(found)


def _classes(description: Any) -> Any:
    """A description with nothing but the names of classes, those inside others included."""
    if isinstance(description, dict) and "class_path" in description:
        inner = {name: _classes(value) for name, value in (description.get("init_args") or {}).items()}
        return _name(description), {name: value for name, value in inner.items() if value}
    return None


def _name(description: Any) -> str:
    path = description["class_path"] if isinstance(description, dict) else str(description)
    return path.rpartition(".")[-1]


def _sizes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _keep_only_the_models(
    optimizer: dict[str, Any], model: LightningModule, slots: tuple[str, ...], checkpoint: dict[str, Any]
) -> None:
    """Numbers an optimiser's state anew, for the parameters of this model."""
    groups: list[dict[str, Any]] = optimizer["param_groups"]
    mine = _named_groups(model)
    theirs = [[name for name in names if not name.startswith(slots)] for names in mine]
    if not _fit(groups, theirs):
        theirs = _named_groups(_as_it_was(model, checkpoint))
    if not _fit(groups, theirs):
        return  # an optimiser of other parameters, which it will say
    known: dict[str, Any] = {}
    for group, names in zip(groups, theirs, strict=True):
        states = (optimizer["state"].get(number) for number in group["params"])
        known |= {name: one for name, one in zip(names, states, strict=True) if one and not name.startswith(slots)}
    order = [name for names in mine for name in names]
    optimizer["state"] = {number: known[name] for number, name in enumerate(order) if name in known}
    numbers = iter(range(len(order)))
    for group, names in zip(groups, mine, strict=True):
        group["params"] = [next(numbers) for _ in names]


def _fit(groups: list[dict[str, Any]], named: list[list[str]]) -> bool:
    return [len(group["params"]) for group in groups] == [len(names) for names in named]


def _named_groups(model: Any) -> list[list[str]]:
    """Names of the parameters in each group of the optimiser."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups: Iterable[Any] = list(model.parameter_groups())
    listed = [group["params"] if isinstance(group, dict) else [group] for group in groups]
    found = [[names[parameter] for parameter in group] for group in listed]
    return found if any(isinstance(group, dict) for group in groups) else [[name for part in found for name in part]]


def _as_it_was(model: LightningModule, checkpoint: dict[str, Any]) -> LightningModule:
    """A model made as that which wrote the checkpoint, its estimator included; no draw of the run is spent on it."""
    saved = checkpoint.get("hyper_parameters", {})
    settings = {name: value for name, value in saved.items() if not name.startswith("_")}
    with torch.random.fork_rng(devices=[]):
        return type(model)(**{**settings, "estimator": checkpoint.get(ESTIMATOR, settings.get("estimator"))})
