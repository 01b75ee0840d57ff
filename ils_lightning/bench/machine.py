"""Where a measurement was made: without it a time means nothing."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ils_lightning import __version__
from ils_lightning.compare.launchers.base import cores


def describe(device: torch.device) -> dict[str, str]:
    """Returns versions, processor and threads."""
    found = {
        "ils_lightning": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
    }
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
    return found | ({"device": str(device)} if device.type not in ("cpu", "cuda") else {})


@contextmanager
def threads(number: int) -> Iterator[None]:
    """`number` threads inside the block; 0 for as many as there are cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
