"""Which keys a run searches, in which ranges, and where it starts."""

from typing import Any

from ils_lightning.compare.grid.search import Range, Search
from ils_lightning.compare.grid.spec import Comparison, Run
from ils_lightning.describe import arguments
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator

RATE = "model.init_args.optimizer.init_args.lr"
_ESTIMATOR = "model.init_args.estimator"
_TIMES = 30.0  # learning rates are searched from a thirtieth to thirty times the one in the file

OWN = {
    "step_size": Range(1e-3, 10.0),
    "backward_temperature": Range(0.1, 10.0),
    "temperature": Range(0.1, 10.0),
    "base": Range(0.0, 1.0, log=False),
    "scale": Range(0.1, 1000.0),
    "penalty": Range(1e-3, 1e3),
    "alpha": Range(1.01, 2.0, log=False),
    "eta": Range(0.0, 2.0, log=False),
    "coefficient": Range(0.0, 1.0, log=False),
    "decay": Range(0.5, 0.999, log=False),
}
"""Options that change an estimate but not what it costs; an estimator searches the first that it has."""


def searched(comparison: Comparison, search: Search, run: Run, setting: str) -> dict[str, Range]:
    """Returns the keys that a run searches under a setting.

    Raises:
        ValueError: when a key that was asked for is fixed by the setting or by an override, or no learning rate is set.
    """
    config = comparison.configuration(run, search.seeds[0], setting)
    fixed = {*run.parts().get(setting, {}), *comparison.override}
    if run.settings and run.shared:
        fixed.add(f"{_ESTIMATOR}.init_args.{run.settings.option}")
    asked = (_rate(run, config) if search.ranges is None else search.ranges) | (run.ranges or {})
    for key in asked:
        if key in fixed:
            raise Refusal(f"run {run.name!r}: {key} is fixed by a setting or an override; it cannot be searched")
    own = _own(config) if run.ranges is None else {}
    return asked | {key: found for key, found in own.items() if key not in fixed}


def start(config: dict, ranges: dict[str, Range]) -> dict[str, float]:
    """Returns the values that a configuration has now of the keys that are searched, where they are in the ranges."""
    found = {key: _value(config, key) for key in ranges}
    return {key: float(value) for key, value in found.items() if ranges[key].holds(value)}


def _rate(run: Run, config: dict) -> dict[str, Range]:
    rate = _value(config, RATE)
    if not isinstance(rate, int | float) or rate <= 0:
        raise Refusal(
            f"run {run.name!r}: the range of the learning rate is that around {RATE}, which is not set; "
            "set it, or give search.ranges"
        )
    return {RATE: Range(rate / _TIMES, rate * _TIMES)}


def _own(config: dict) -> dict[str, Range]:
    """Returns the estimator's own option and its range, if it has one."""
    description = _value(config, _ESTIMATOR)
    known = arguments(description, Estimator) if description else {}
    return {f"{_ESTIMATOR}.init_args.{name}": OWN[name] for name in [name for name in OWN if name in known][:1]}


def _value(config: dict, key: str) -> Any:
    """Returns what a configuration says of a dotted key, or the estimator's default; None where neither is known."""
    found: Any = config
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    prefix = f"{_ESTIMATOR}.init_args."
    if found is None and key.startswith(prefix):
        return arguments(config["model"]["init_args"]["estimator"], Estimator).get(key.removeprefix(prefix))
    return found
