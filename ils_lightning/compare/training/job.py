"""One training of a comparison: a run under a setting with a seed, and where its result is kept."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ils_lightning import atomic
from ils_lightning.checkpoint_io import require_undamaged, set_aside
from ils_lightning.compare.grid.spec import Comparison, Run
from ils_lightning.errors import Refusal

_FORMAT = 2  # of result.pt: results in another form are trained anew

_LONGEST = 80  # bytes of a name in that of a folder, which may have 255
_PARTS = {"steps", "values", "times", "tracked", "metrics", "optimizer_steps", "seconds", "evaluations"}


@dataclass
class Job:
    """What one process trains at a time.

    Args:
        run: name of the run.
        setting: name of the setting, or empty where there is none or all share the training.
        seed: of this training.
        change: tuned keys and their values.
        config: the full configuration.
        folder: where the result and the last checkpoint are kept; its name holds a digest of the configuration.
    """

    run: str
    setting: str
    seed: int
    change: dict[str, Any]
    config: dict[str, Any] = field(repr=False)
    folder: Path

    @property
    def label(self) -> str:
        """Returns run, setting and seed in words."""
        return f"{f'{self.run} {self.setting}'.strip()}, seed {self.seed}"

    def result(self) -> dict[str, Any] | None:
        """Returns the result if the training is finished; a file that holds none is set aside."""
        finished = self.folder / "result.pt"
        try:
            require_undamaged(finished)
            found = torch.load(finished, weights_only=True)
            if not _is_result(found):
                raise Refusal("it is not the result of a training")
        except OSError as error:
            if finished.is_dir():
                set_aside(finished, error, "the training is done again")
            elif finished.exists():
                raise
            return None
        except Exception as error:  # torch and zipfile meet damage in many ways
            set_aside(finished, error, "the training is done again")
            return None
        return found

    def keep(self, result: dict[str, Any]) -> None:
        """Puts a result in place, complete or not at all."""
        atomic.save(result, self.folder / "result.pt")


def _is_result(found: Any) -> bool:
    """Whether this is what a training came to: why it failed, or its curve and what was measured."""
    if not isinstance(found, dict):
        return False
    if "failed" in found:
        return isinstance(found["failed"], str)
    curves: list[Any] = [found.get(name) for name in ("steps", "values", "times")]
    tracked, measured = found.get("tracked"), found.get("metrics")
    return (
        found.keys() >= _PARTS
        and all(isinstance(one, torch.Tensor) and one.dim() > 0 for one in curves)
        and len({len(one) for one in curves}) == 1
        and isinstance(tracked, tuple | list)
        and len(tracked) == 2
        and isinstance(measured, dict)
        and all(isinstance(found[name], int | float) for name in ("optimizer_steps", "seconds", "evaluations"))
    )


def make(comparison: Comparison, run: Run, setting: str, seed: int, change: dict[str, Any], folder: Path) -> Job:
    """Returns a job of a comparison whose trainings are kept under `folder`."""
    config = comparison.configuration(run, seed, setting, change)
    digest = hashlib.sha256(json.dumps([_FORMAT, config], sort_keys=True).encode()).hexdigest()[:12]
    name = "-".join(part for part in (_slug(run.name), _slug(setting), str(seed), digest) if part)
    return Job(run.name, setting, seed, {**run.chosen(setting), **change}, config, folder / name)


def _slug(name: str) -> str:
    slug = "".join(letter if letter.isalnum() else "_" for letter in name).strip("_").lower()
    if len(slug.encode()) <= _LONGEST:
        return slug
    start = slug.encode()[: _LONGEST - 9].decode(errors="ignore")
    return f"{start}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
