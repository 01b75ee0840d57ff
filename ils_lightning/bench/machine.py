"""Where a measurement was made, and on how many threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ils_lightning import machine
from ils_lightning.compare.launchers.base import cores
from ils_lightning.errors import Refusal, did_you_mean

_KINDS = ("cpu", "cuda", "mps", "xpu")
_ALSO_CALLED = {"gpu": "cuda", "nvidia": "cuda"}


def device(name: str) -> torch.device:
    """Returns the device of this name.

    Raises:
        ValueError: when this machine has none.
    """
    rule = f"--device must be one that this machine has, such as cpu; given {name!r}"
    try:
        found = torch.device(name)
    except RuntimeError:
        hint = did_you_mean(_ALSO_CALLED.get(name.lower(), name), _KINDS)
        raise Refusal(f"{rule}{hint}") from None
    try:
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise Refusal(f"{rule}: {str(error).splitlines()[0]}") from None
    return found


def describe(device: torch.device) -> dict[str, str]:
    """Returns versions, processor, threads and device."""
    found = machine.describe() | {"threads": str(torch.get_num_threads())}
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
