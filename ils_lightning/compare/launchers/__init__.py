"""Where the jobs of a comparison are trained: one class for each way, one file for each class."""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from ils_lightning.compare.launchers.base import Launch, Launcher, checked, cores
from ils_lightning.compare.launchers.pool import Pool
from ils_lightning.errors import Refusal, did_you_mean
from ils_lightning.extras import require

__all__ = ["Launch", "Launcher", "Pool", "cores", "launch"]

_OTHERS = {"submitit": ("slurm", "slurm_array:SlurmArray"), "ray": ("ray", "ray_cluster:RayCluster")}
"""Extra to install and class of each launcher that is called by the name of the package it needs."""


def launch(name: str, folder: Path, workers: int | None, options: Mapping[str, Any]) -> Launch:
    """Returns what makes the launcher of that name.

    Args:
        name: of the launcher.
        folder: of the comparison.
        workers: jobs that train at a time; as many as the launcher sees fit unless given.
        options: of the launcher.

    Raises:
        ValueError: when there is no such launcher, when the package it needs is missing, or the pool is given options.
    """
    if name == "pool":
        if options:
            raise Refusal(f"--launcher pool has no options; given {', '.join(options)}")
        return partial(Pool, checked(workers))
    if name not in _OTHERS:
        known = ["pool", *_OTHERS]
        raise Refusal(f"unknown --launcher {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
    extra, target = _OTHERS[name]
    require(name, f"--launcher {name}", extra)
    module, kind = target.split(":")
    made = getattr(import_module(f"ils_lightning.compare.launchers.{module}"), kind)
    return partial(made, checked(workers), options=options, folder=folder)
