"""What made a result: versions and processor; without them a time means nothing."""

import platform
from pathlib import Path

import lightning
import torch

from ils_lightning import __version__


def describe() -> dict[str, str]:
    """Returns versions and processor.

    Example:
        >>> list(describe())
        ['ils_lightning', 'torch', 'lightning', 'python', 'processor']
    """
    return {
        "ils_lightning": __version__,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "python": platform.python_version(),
        "processor": processor(),
    }


def processor() -> str:
    """Returns the processor's name as the system gives it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
