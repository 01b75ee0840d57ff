"""What a comparison file says: a base configuration, runs that change it, seeds, and how to report."""

from copy import deepcopy
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from ils_lightning.data import DiscreteData
from ils_lightning.describe import arguments, create


@dataclass
class Settings:
    """Values of one option, each with a curve of its own.

    An option of the estimator, given by its bare name, has its values share a run, as rows of one batch. A dotted key
    of the configuration is trained once for each value.

    Args:
        option: the option's name, or a dotted key such as model.init_args.power.
        levels: one value a setting.
        labels: how to name the settings; `option=value` unless given.
    """

    option: str
    levels: list[float]
    labels: list[str] | None = None

    def names(self) -> list[str]:
        """Returns a label for each setting."""
        return self.labels or [f"{self.option.rsplit('.', 1)[-1]}={value:g}" for value in self.levels]

    @property
    def shared(self) -> bool:
        """Whether all values share a run."""
        return "." not in self.option

    def __post_init__(self) -> None:
        if not self.levels or (self.labels is not None and len(self.labels) != len(self.levels)):
            raise ValueError(f"settings need levels, and as many labels if any; given {self.levels} and {self.labels}")


@dataclass
class Run:
    """One estimator of a comparison.

    Args:
        name: how to call it.
        change: dotted keys of the base configuration and their new values.
        settings: values of one option, each with its own curve; those of the comparison unless given.
        floor: draw the published form's bias floor KL(p || p(1-p)/Z) / categories beside it; needs `TrueDistribution`.
        reference: what the others are measured by; drawn in black.
    """

    name: str
    change: dict[str, Any] = field(default_factory=dict)
    settings: Settings | None = None
    floor: bool = False
    reference: bool = False

    def changes(self) -> list[dict[str, float]]:
        """Returns what has to be trained: one change of the configuration for each setting that is a run by itself."""
        if self.settings is None or self.settings.shared:
            return [{}]
        return [{self.settings.option: value} for value in self.settings.levels]


@dataclass
class Tune:
    """A configuration key chosen for each run by its plateau on seeds that are not reported.

    Args:
        key: dotted key, such as a learning rate.
        candidates: values to try.
        seeds: tuning seeds; none of them may be a reporting seed.
    """

    key: str
    candidates: list[float]
    seeds: list[int]


@dataclass
class Comparison:
    """A grid of runs x seeds.

    Args:
        title: of table and figure.
        base: a configuration file, the name of a packaged one, or the configuration itself.
        runs: what to compare.
        change: dotted keys changed for all runs.
        settings: of all runs that have none of their own.
        seeds: each gives new data, starting points and noise.
        paired: all runs of a seed see the same data; else fresh ones.
        tune: choose a key for each run first.
        layout: "panels" draws a panel for each setting, a row for each run; "settings" a panel for each setting, with a
            line for each run; "lines" one panel with all of them.
        caption: a sentence under the figure.
    """

    title: str
    base: str | dict
    runs: list[Run]
    change: dict[str, Any] = field(default_factory=dict)
    settings: Settings | None = None
    seeds: list[int] = field(default_factory=lambda: [0])
    paired: bool = True
    tune: Tune | None = None
    layout: Literal["panels", "settings", "lines"] = "lines"
    caption: str = ""

    def __post_init__(self) -> None:
        names = [run.name for run in self.runs]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a comparison needs runs with different names; given {names}")
        if not self.seeds:
            raise ValueError("a comparison needs at least one seed; given none")
        if not isinstance((load(self.base) if isinstance(self.base, str) else self.base).get("trainer"), dict):
            raise ValueError("the base of a comparison needs the sections model, data and trainer (with max_steps)")
        if self.tune and set(self.tune.seeds) & set(self.seeds):
            raise ValueError(f"tuning seeds {self.tune.seeds} and reporting seeds {self.seeds} must differ")
        for run in self.runs:
            run.settings = run.settings or self.settings

    def configuration(self, run: Run, seed: int, change: dict[str, Any] | None = None) -> dict:
        """Returns the full configuration of one run with one seed."""
        config = deepcopy(load(self.base)) if isinstance(self.base, str) else deepcopy(self.base)
        data_seed = seed if self.paired else seed + 10_000 * self.runs.index(run)
        for key, value in {**self.change, **run.change, **(change or {})}.items():
            assign(config, key, value)
        assign(config, "seed_everything", seed)
        if "seed" in arguments(config["data"], DiscreteData):
            assign(config, "data.init_args.seed", data_seed)
        if run.settings and run.settings.shared:
            assign(config, f"model.init_args.estimator.init_args.{run.settings.option}", run.settings.levels)
            assign(config, "model.init_args.settings", len(run.settings.levels))
            assign(config, "data.init_args.settings", len(run.settings.levels))
            assign(config, "data.init_args.paired", self.paired)
        return config


def assign(config: dict, key: str, value: Any) -> None:
    """Sets a dotted key of nested dictionaries, making the levels that are missing."""
    *parents, last = key.split(".")
    for name in parents:
        if not isinstance(config.get(name), dict):
            config[name] = {}
        config = config[name]
    config[last] = deepcopy(value)


def find(name: str) -> Path:
    """Returns the file `name`, or the packaged configuration of that name.

    Raises:
        ValueError: when there is neither; the text lists the packaged ones.
    """
    if Path(name).is_file():
        return Path(name)
    folders = [Path(str(files("ils_lightning"))) / "configs", Path(str(files("ils_lightning"))).parent / "configs"]
    for folder in folders:
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    known = sorted({str(path.relative_to(folder))[:-5] for folder in folders for path in folder.rglob("*.yaml")})
    raise ValueError(f"no configuration file {name!r}; packaged ones are {', '.join(known)}")


def load(name: str) -> dict:
    """Reads a YAML file, or the packaged configuration of that name."""
    return yaml.safe_load(find(name).read_text(encoding="utf-8"))


def read(name: str) -> Comparison:
    """Reads a comparison file.

    Raises:
        ValueError: when a key is unknown or of the wrong type.
    """
    return create(load(name), Comparison)
