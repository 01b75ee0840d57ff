"""What a comparison file says: a base configuration, runs that change it, seeds, and how to report."""

from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lightning import LightningDataModule

from ils_lightning import packaged
from ils_lightning.compare.grid.keys import assign
from ils_lightning.compare.grid.names import require_showable
from ils_lightning.compare.grid.search import Range, Search
from ils_lightning.compare.grid.settings import Level, Settings
from ils_lightning.describe import arguments, preview
from ils_lightning.errors import Refusal, did_you_mean, listed, refusing
from ils_lightning.messages import explained

__all__ = ["Comparison", "Level", "Range", "Run", "Search", "Settings", "Tune", "assign", "read"]

_SECTIONS = ("model", "data", "trainer", "seed_everything")
ALL = "all"
"""Stands for the name of the setting where a run has no settings, or they share one training."""


@dataclass
class Run:
    """One estimator of a comparison.

    Args:
        name: how to call it.
        change: dotted keys of the base configuration and their new values.
        settings: what to repeat the run for, each with its own curve; those of the comparison unless given.
        by_setting: further changes under one setting, by the setting's name: values published for each size.
        only: names of the settings to run under; all unless given.
        ranges: dotted keys that only this run searches, and their ranges; the estimator's own option unless given.
        tuned: keys and values that were chosen on tuning seeds, by the name of the setting, or for `all` where there is
            none; `compare --tune` writes them.
        floor: draw the published form's bias floor KL(p || p(1-p)/Z) / categories beside it; needs `TrueDistribution`.
        reference: what the others are measured by; drawn in black.
    """

    name: str
    change: dict[str, Any] = field(default_factory=dict)
    settings: Settings | None = None
    by_setting: dict[str, dict[str, Any]] = field(default_factory=dict)
    only: list[str] | None = None
    ranges: dict[str, Range] | None = None
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)
    floor: bool = False
    reference: bool = False

    @property
    def shared(self) -> bool:
        """Whether its settings share one training."""
        return self.settings is not None and self.settings.shared

    def parts(self) -> dict[str, dict[str, Any]]:
        """Returns what has to be trained: the change for each setting that is a run by itself, by its name."""
        if self.settings is None or self.settings.shared:
            return {"": {}}
        changes = self.settings.changes()
        return {
            name: {**change, **self.by_setting.get(name, {})}
            for name, change in changes.items()
            if self.only is None or name in self.only
        }

    def labels(self) -> list[str]:
        """Returns the names of the settings it has a curve for; one that is empty where there are none."""
        return self.settings.names() if self.settings and self.settings.shared else list(self.parts())

    def changes(self, setting: str) -> dict[str, Any]:
        """Returns all changes of the base configuration under one setting."""
        return {**self.change, **self.parts().get(setting, {})}

    def check(self) -> None:
        """Raises a ValueError where `only` or `by_setting` name no setting."""
        known = self.settings.names() if self.settings and not self.settings.shared else []
        for name in [*self.by_setting, *(self.only or [])]:
            if name not in known:
                raise Refusal(
                    f"run {self.name!r}: there is no setting {name!r} that is trained by itself"
                    f"{did_you_mean(name, known)}; there are {', '.join(known) or 'none'}"
                )
        if self.only == []:
            raise Refusal(f"run {self.name!r}: only names no setting; leave it out to run under all")
        for name in self.tuned:
            if name not in (known or [ALL]):
                raise Refusal(f"run {self.name!r}: tuned names {name!r}; it may name {', '.join(known or [ALL])}")

    def chosen(self, setting: str) -> dict[str, Any]:
        """Returns the keys and values that were chosen for a setting, by its name, or for all of them."""
        return self.tuned.get(setting or ALL, {})


@dataclass
class Tune:
    """A configuration key chosen for each run and setting, on seeds that are not reported.

    Args:
        key: dotted key, such as a learning rate.
        candidates: values to try; the lowest mean over tuning seeds wins.
        seeds: tuning seeds; none of them may be a reporting seed.
        measure: what to minimise, such as val/loss; that of the comparison unless given.
        change: dotted keys changed while tuning only, such as the number of validation images held out.
    """

    key: str
    candidates: list[float]
    seeds: list[int]
    measure: str | None = None
    change: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.candidates or not self.seeds:
            raise Refusal(f"tuning needs candidates and seeds; given {self.candidates} and {self.seeds}")


@dataclass
class Comparison:
    """A grid of runs x settings x seeds, all trained for the same number of optimiser steps unless changed.

    Args:
        title: of table and figure.
        base: a configuration file, the name of a packaged one, or the configuration itself.
        runs: what to compare.
        change: dotted keys changed for all runs.
        settings: of all runs that have none of their own.
        seeds: each gives new data, starting points and noise.
        paired: all runs of a seed see the same data; else fresh ones.
        measure: the metric that ranks, lower being better, such as test/loss; the plateau of the curve unless given.
        measure_label: what figures call the measure, with its unit; its name unless given.
        tune: choose a key for each run and setting first.
        search: how `compare --tune` searches options; see `Search`.
        override: dotted keys that win over all others.
        layout: "panels" draws a panel for each setting, a row for each run; "settings" a panel for each setting, with a
            line for each run; "lines" one panel with all of them; "budgets" a row for each setting, against optimiser
            steps, evaluations of f and seconds.
        caption: a sentence under the figure.
    """

    title: str
    base: str | dict
    runs: list[Run]
    change: dict[str, Any] = field(default_factory=dict)
    settings: Settings | None = None
    seeds: list[int] = field(default_factory=lambda: [0])
    paired: bool = True
    measure: str | None = None
    measure_label: str = ""
    tune: Tune | None = None
    search: Search | None = None
    override: dict[str, Any] = field(default_factory=dict)
    layout: Literal["panels", "settings", "lines", "budgets"] = "lines"
    caption: str = ""

    def __post_init__(self) -> None:
        require_showable("a comparison's title", self.title, lines=True)
        require_showable("a comparison's caption", self.caption, lines=True)
        require_showable("a measure's label", self.measure_label, lines=True)
        names = [run.name for run in self.runs]
        for name in names:
            require_showable("a run's name", name)
        if not names or len(set(names)) < len(names):
            raise Refusal(f"a comparison needs runs with different names; given {names}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise Refusal(f"a comparison needs at least one seed, each once; given {self.seeds or 'none'}")
        if any(not 0 <= seed < 2**32 for seed in self.seeds):
            raise Refusal(f"seeds must be from 0 to {2**32 - 1}; given {self.seeds}")
        self._base = packaged.load(self.base) if isinstance(self.base, str) else self.base
        if not isinstance(self._base.get("trainer"), dict):
            raise Refusal("the base of a comparison needs the sections model, data and trainer")
        for chosen in (self.tune, self.search):
            if chosen and set(chosen.seeds) & set(self.seeds):
                raise Refusal(f"tuning seeds {chosen.seeds} and reporting seeds {self.seeds} must differ")
        self.runs = [replace(run, settings=run.settings or self.settings) for run in self.runs]
        for run in self.runs:
            run.check()
            for name in run.settings.names() if run.settings else []:
                require_showable("a setting's name", name)
            if run.shared and self.measure:
                raise Refusal(
                    f"run {run.name!r}: {self.measure} is one number a training, and its settings share one; "
                    "name the option by its dotted key to train each by itself"
                )
        self._numbers = {name: number for number, name in enumerate(names)}
        self._seeded: dict[str, bool] = {}

    def select(
        self,
        runs: list[str] | None = None,
        settings: list[str] | None = None,
        seeds: list[int] | None = None,
        overrides: dict[str, Any] | None = None,
    ) -> "Comparison":
        """Returns the part of the comparison with these runs, settings and seeds, and `overrides` for all runs.

        A run of the part is the same run as in the whole.

        Raises:
            ValueError: when a run, setting or seed is not in the comparison.
        """
        part = copy(self)
        part.runs = [run for run in self.runs if not runs or run.name in runs]
        _require("run", runs, [run.name for run in self.runs])
        if settings:
            _require("setting trained by itself", settings, [name for run in self.runs for name in run.parts() if name])
            only = [(run, [name for name in run.parts() if name in settings]) for run in part.runs]
            part.runs = [replace(run, only=names) for run, names in only if names]
        part.seeds = [seed for seed in self.seeds if not seeds or seed in seeds]
        _require("reporting seed", seeds, self.seeds)
        if not part.runs:
            raise Refusal(f"none of the runs {runs} is done under {settings}")
        part.override = {**self.override, **(overrides or {})}
        return part

    def configuration(self, run: Run, seed: int, setting: str = "", change: dict[str, Any] | None = None) -> dict:
        """Returns the full configuration of one run and setting with one seed; what comes later wins.

        The order is base, comparison, run, setting, run under that setting, tuned values, `change`, overrides.
        """
        config = deepcopy(self._base)
        late = [run.parts().get(setting, {}), run.chosen(setting), change or {}, self.override]
        for key, value in {**self.change, **run.change}.items():
            assign(config, key, value)
        for key, value in [pair for part in late for pair in part.items()]:
            assign(config, key, value)
        for section in ("model", "data", "trainer"):
            if not isinstance(config.get(section), dict):
                shape = "{max_epochs: 20}" if section == "trainer" else "{class_path: my_module.MyClass}"
                raise Refusal(
                    f"the sections model, data and trainer of a comparison must be mappings; {section} is "
                    f"{config.get(section)!r} in run {run.name!r}; it may be {shape}, given in base"
                )
        for section in config:
            if section not in _SECTIONS:
                hint = did_you_mean(str(section), _SECTIONS)
                raise Refusal(f"run {run.name!r}: there is no section {section!r}{hint}; known: {', '.join(_SECTIONS)}")
        assign(config, "seed_everything", seed)
        if self._has_seed(run, config["data"]):
            data_seed = seed if self.paired else seed + 10_000 * self._numbers[run.name]
            assign(config, "data.init_args.seed", data_seed)
        if run.settings and run.settings.shared:
            assign(config, f"model.init_args.estimator.init_args.{run.settings.option}", run.settings.levels)
            assign(config, "model.init_args.settings", len(run.settings.levels))
            assign(config, "data.init_args.settings", len(run.settings.levels))
            assign(config, "data.init_args.paired", self.paired)
        return config

    def _has_seed(self, run: Run, data: dict) -> bool:
        """Whether data take a seed; the same data are asked once."""
        described = repr(data)
        if described not in self._seeded:
            with refusing({Refusal: lambda error: f"run {run.name!r}: {explained(error, 'data')}"}):
                self._seeded[described] = "seed" in arguments(data, LightningDataModule)
        return self._seeded[described]


def _require(what: str, chosen: Sequence[Any] | None, known: Sequence[Any]) -> None:
    for one in chosen or []:
        if one not in known:
            names = list(dict.fromkeys(map(str, known)))
            hint = did_you_mean(str(one), names)
            raise Refusal(f"the comparison has no {what} {one!r}{hint}; it has {listed(names, str(one)) or 'none'}")


def read(name: str) -> Comparison:
    """Reads a comparison file.

    Raises:
        ValueError: when a key is unknown or of the wrong type.
    """
    return preview(packaged.load(name, "comparison"), Comparison)
