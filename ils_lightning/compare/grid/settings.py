"""Settings of a comparison: the values of one option, or named changes of several keys."""

from dataclasses import dataclass, field
from typing import Any

from ils_lightning.errors import Refusal


@dataclass
class Level:
    """A named setting that is trained by itself.

    Args:
        name: how to call it, such as L8K4.
        change: dotted keys of the configuration and their values.
    """

    name: str
    change: dict[str, Any] = field(default_factory=dict)


@dataclass
class Settings:
    """What every run is repeated for, each with a curve of its own.

    Numbers are values of `option`. An option of the estimator, given by its bare name, has its values share a run, as
    rows of one batch; a dotted key of the configuration is trained once for each value. A level with a name and a
    change of several keys is trained by itself and needs no `option`.

    Args:
        levels: one number, or one name and change, for each setting.
        option: the option's name, or a dotted key such as model.init_args.power; empty for named levels.
        labels: how to name numeric levels; `option=value` unless given.

    Example:
        >>> Settings([Level("L8K4", {"model.init_args.latents": 8, "model.init_args.categories": 4})]).names()
        ['L8K4']
        >>> Settings([1.5, 2.0], option="model.init_args.power").names()
        ['power=1.5', 'power=2']
    """

    levels: list[float | Level]
    option: str = ""
    labels: list[str] | None = None

    def __post_init__(self) -> None:
        if not self.levels or (self.labels is not None and len(self.labels) != len(self.levels)):
            raise Refusal(f"settings need levels, and as many labels if any; given {self.levels} and {self.labels}")
        named = [isinstance(level, Level) for level in self.levels]
        if any(named) and (not all(named) or self.option or self.labels):
            raise Refusal("settings are numbers with an option, or names with changes and neither option nor labels")
        if not any(named) and not self.option:
            raise Refusal(f"settings that are numbers need the option whose values they are; given {self.levels}")
        if len(set(self.names())) < len(self.levels):
            raise Refusal(f"settings need different names; given {self.names()}")

    def names(self) -> list[str]:
        """Returns a label for each setting."""
        if self.labels:
            return self.labels
        tail = self.option.rsplit(".", 1)[-1]
        return [level.name if isinstance(level, Level) else f"{tail}={level:g}" for level in self.levels]

    @property
    def shared(self) -> bool:
        """Whether all values share a run."""
        return bool(self.option) and "." not in self.option

    def changes(self) -> dict[str, dict[str, Any]]:
        """Returns the change of the configuration for each setting, by its name; for settings trained by themselves."""
        changes = [level.change if isinstance(level, Level) else {self.option: level} for level in self.levels]
        return dict(zip(self.names(), changes, strict=True))
