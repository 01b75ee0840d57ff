"""One thread and one seed for every test; slow tests are left out of the coverage that CI reports."""

from collections.abc import Iterator

import pytest
import torch
from coverage import Coverage

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _untraced_if_slow(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tracing makes a test a third slower."""
    tracing = Coverage.current() if request.node.get_closest_marker("slow") else None
    if tracing is not None:
        tracing.stop()
    yield
    if tracing is not None:
        tracing.start()
