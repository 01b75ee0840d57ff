"""One thread and one seed for every test; long tests are left out of the coverage that CI reports."""

from collections.abc import Iterator

import pytest
import torch
from coverage import Coverage

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is long is slow, too; what needs an accelerator is skipped without one."""
    for item in items:
        if item.get_closest_marker("gpu") and not torch.accelerator.is_available():
            item.add_marker(pytest.mark.skip(reason="needs an accelerator"))
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _untraced_if_long(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tracing makes a test a third slower."""
    tracing = Coverage.current() if request.node.get_closest_marker("long") else None
    if tracing is not None:
        tracing.stop()
    yield
    if tracing is not None:
        tracing.start()
