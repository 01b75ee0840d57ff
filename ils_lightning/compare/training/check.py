"""Mistakes that show before anything is trained."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from lightning import LightningDataModule, LightningModule

from ils_lightning.compare.grid.spec import Comparison, Run
from ils_lightning.compare.training.fit import make_trainer
from ils_lightning.compare.training.outcome import Outcome
from ils_lightning.compare.training.previews import Previews
from ils_lightning.compare.training.training_loss import without_curve
from ils_lightning.describe import arguments, create
from ils_lightning.errors import Refusal, did_you_mean, listed, refusing
from ils_lightning.estimators import Estimator
from ils_lightning.layers import VectorQuantizer
from ils_lightning.messages import explained
from ils_lightning.modules.protocols import has_curve

Configured = list[tuple[str, dict]]
"""Runs under settings: what to call each in a message, and its configuration on the first seed."""
_PARTS = {"estimator": Estimator, "quantizer": VectorQuantizer}
"""Parts of a model that are made by themselves: where one cannot be, the model is not at fault."""


def configured(comparison: Comparison, parts: list[tuple[Run, str]]) -> Configured:
    """Returns the configurations of runs under settings, of which the functions below try the sections."""
    seed = comparison.seeds[0]
    return [(f"{run.name} {name}".strip(), comparison.configuration(run, seed, name)) for run, name in parts]


def models_can_be_made(parts: Configured) -> list[str]:
    """Makes each model.

    Returns:
        Why its estimator cannot serve the model, or nothing: that is a result, not a mistake.

    Raises:
        ValueError: when a configuration is at fault.
    """
    previews = Previews()
    return [_model_can_be_made(f"run {name!r}", config, previews) for name, config in parts]


def _model_can_be_made(name: str, config: dict, previews: Previews) -> str:
    steps, epochs = config["trainer"].get("max_steps"), config["trainer"].get("max_epochs")
    if not any(isinstance(end, int) and end >= 1 for end in (steps, epochs)):
        raise Refusal(
            f"{name}: trainer.max_steps or trainer.max_epochs must be a whole number of at least 1; "
            f"given {steps} and {epochs}"
        )
    try:
        model = previews.make(config["model"])
    except Refusal as error:
        _raise_mistakes(name, config)
        return str(error)
    if not has_curve(model) and not model.automatic_optimization:
        raise Refusal(without_curve(type(model).__name__))
    return ""


def data_are_there(parts: Configured) -> None:
    """Obtains and loads each of the data sets once: a file that is missing is no result to be kept.

    Raises:
        ValueError: when data cannot be had.
    """
    for name, description in _distinct(parts, "data"):
        with refusing({Refusal: lambda error, name=name: f"run {name!r}: {explained(error, 'data')}"}):
            data = create(description, LightningDataModule)
        data.prepare_data()
        data.setup("fit")


def trainers_can_be_made(parts: Configured) -> None:
    """Makes each of the Trainers once.

    Raises:
        ValueError: when its options are at fault.
    """
    for name, options in _distinct(parts, "trainer"):
        with refusing({Refusal: lambda error, name=name: f"run {name!r}: {explained(error, 'trainer')}"}):
            make_trainer(options)


def _distinct(parts: Configured, section: str) -> Iterator[tuple[str, dict]]:
    """Yields each of the settings of a section once, with the first run that has it."""
    seen = []
    for name, config in parts:
        if config[section] not in seen:
            seen.append(config[section])
            yield name, config[section]


def naming_overrides(overrides: dict[str, Any]) -> AbstractContextManager[None]:
    """A context in which a mistake is told of the override that makes it, where one does.

    What all runs share is no fault of one of them: of the options of Trainer and data none is named.
    """
    return refusing({Refusal: partial(_of_override, overrides)})


def _of_override(overrides: dict[str, Any], error: Refusal) -> str | None:
    for key in overrides:
        run, found, said = str(error).partition(f": {key}: ")
        if found:
            return f"override {key}{'' if key.startswith(('trainer.', 'data.')) else f' in {run}'}: {said}"
    return None


def measure_exists(outcome: Outcome, measure: str | None) -> None:
    """Raises a ValueError where a run that finished has no such measure."""
    if measure and not outcome.failed and measure not in outcome.metrics:
        known = sorted(outcome.metrics)
        raise Refusal(
            f"run {outcome.run!r} has no measure {measure!r}{did_you_mean(measure, known)}; it logged "
            f"{listed(known, measure) or 'none'}. What has been trained is kept for the next start"
        )


def _raise_mistakes(name: str, config: dict) -> None:
    """Raises a ValueError where a part of the configuration by itself is at fault."""
    with refusing({Refusal: lambda error: f"{name}: {explained(error, 'data')}"}):
        create(config["data"], LightningDataModule)
    with refusing({Refusal: lambda error: f"{name}: {explained(error, 'model')}"}):
        arguments(config["model"], LightningModule)
    for part, kind in _PARTS.items():
        where = f"model.init_args.{part}"
        with refusing({Refusal: lambda error, where=where: f"{name}: {explained(error, where)}"}):
            if description := (config["model"].get("init_args") or {}).get(part):
                create(description, kind)
