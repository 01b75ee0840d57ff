"""Ranks that share a batch compute what one process computes on the whole of it, given the same draws."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from examples import EXAMPLES, Example
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ils_lightning.estimators import Estimator
from ils_lightning.estimators.distributed import sum_over_ranks, sums_over_ranks

ROWS, STEPS = 20, 3
SIZES = {"1": [20], "2": [10, 10], "4": [5, 5, 5, 5], "unequal": [13, 7], "empty": [20, 0]}
FIRST = {type(example.make()): example.name for example in reversed(EXAMPLES)}  # one example of each class
TRIED = [example for example in EXAMPLES if example.name in FIRST.values() or example.make().pooled]
NAMES = [example.name for example in TRIED]
POOLED = [example.name for example in TRIED if example.make().pooled]


def size(estimator: Estimator) -> tuple[int, int]:
    return (2, 2) if estimator.binary else (2, 3)


def made(example: Example) -> Estimator:
    torch.manual_seed(1)
    estimator = example.make()
    estimator.build(*size(estimator))
    return estimator


class Model(nn.Module):
    """An encoder, an estimator and a decoder."""

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.size = size(estimator)
        units = self.size[0] * self.size[1]
        self.encoder, self.decoder, self.estimator = nn.Linear(3, units), nn.Linear(units, 3), estimator

    def forward(self, x: Tensor) -> Tensor:
        return self.estimator(self.encoder(x).unflatten(-1, self.size), self.loss(x)).mean()

    def loss(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda z: (self.decoder(z.flatten(-2)) - x).square().sum(-1)


def shared_noise(rank: int, sizes: list[int]) -> Any:
    """A `torch.rand` that draws for the whole batch and keeps this rank's rows."""
    draw = torch.rand

    def rand(*shape: Any, generator: Any = None, **options: Any) -> Tensor:
        del generator
        whole = list(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else list(shape)
        axis = whole.index(sizes[rank])
        whole[axis] = ROWS
        return draw(whole, **options).split(sizes, dim=axis)[rank]

    return rand


def learnt_weights(example: Example, x: Tensor) -> dict[str, Tensor]:
    """Trains a model as the command line's `ddp` does, without a search for unused parameters."""
    model = Model(made(example))
    shared = DistributedDataParallel(model) if dist.is_initialized() else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    torch.manual_seed(2)
    for batch in x:
        optimizer.zero_grad()
        shared(batch).backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def estimates(example: Example, x: Tensor) -> dict[str, Tensor]:
    """Estimates of each row, and the state they leave; ranks may hold unlike numbers of rows."""
    model = Model(made(example))
    model.requires_grad_(False)
    torch.manual_seed(2)
    found = []
    for batch in x:
        logits = model.encoder(batch).unflatten(-1, model.size).requires_grad_()
        model.estimator(logits, model.loss(batch)).sum().backward()
        found.append(logits.grad)
    state = {name: value.clone() for name, value in model.estimator.state_dict().items()}
    return {"estimates": torch.stack([x for x in found if x is not None]), **state}


def work(rank: int, name: str, folder: Path) -> None:
    """Runs every example on this rank's rows, and saves what came out."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    sizes = SIZES[name]
    x = torch.randn(STEPS, ROWS, 3, generator=torch.Generator().manual_seed(0)).split(sizes, dim=1)[rank]
    if len(sizes) > 1:
        dist.init_process_group("gloo", f"file://{folder / 'store'}", rank=rank, world_size=len(sizes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", shared_noise(rank, sizes))
        found = {example.name: estimates(example, x) for example in TRIED}
        if len(set(sizes)) == 1:  # DDP averages ranks, however many rows they have
            found |= {f"{example.name} weights": learnt_weights(example, x) for example in TRIED}
    torch.save(found, folder / f"{rank}.pt")
    if len(sizes) > 1:
        dist.barrier()
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, dict[str, Tensor]]]]:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    found = {}
    for name, sizes in SIZES.items():
        folder = tmp_path_factory.mktemp(name)
        mp.start_processes(work, (name, folder), nprocs=len(sizes), start_method="fork")
        found[name] = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(len(sizes))]
    return found


def assert_same(given: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert given.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(given[key], value, rtol=0, atol=1e-10, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ranks", ["2", "4"])
def test_ranks_learn_what_one_process_learns(computed: dict, name: str, ranks: str) -> None:
    (alone,) = computed["1"]
    for rank in computed[ranks]:
        assert_same(rank[f"{name} weights"], alone[f"{name} weights"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ranks", ["2", "4", "unequal", "empty"])
def test_ranks_estimate_what_one_process_estimates(computed: dict, name: str, ranks: str) -> None:
    (alone,) = computed["1"]
    parts = [dict(rank[name]) for rank in computed[ranks]]
    whole = torch.cat([part.pop("estimates") for part in parts], dim=1)
    for state in parts:
        assert_same({"estimates": whole, **state}, alone[name])


@pytest.mark.parametrize("name", POOLED)
def test_what_is_pooled_makes_a_difference(computed: dict, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sums over ranks the first test would fail: alone, half of the rows give other estimates."""
    (alone,) = computed["1"]
    torch.set_default_dtype(torch.float64)
    try:
        x = torch.randn(STEPS, ROWS, 3, generator=torch.Generator().manual_seed(0))[:, :10]
        monkeypatch.setattr(torch, "rand", shared_noise(0, [10, 10]))
        half = estimates(next(e for e in TRIED if e.name == name), x)["estimates"]
    finally:
        torch.set_default_dtype(torch.float32)
    assert (half - alone[name]["estimates"][:, :10]).abs().max() > 1e-6


def test_a_single_process_adds_nothing() -> None:
    assert sum_over_ranks(torch.ones(2)).tolist() == [1, 1]


def test_several_sums_travel_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def double(value: Tensor) -> None:  # as if a second rank had the same
        sent.append(value.numel())
        value.mul_(2)

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", double)
    given = torch.arange(6.0).reshape(2, 3), torch.tensor(1.5, dtype=torch.float64), torch.zeros(0, 4)
    found = sums_over_ranks(*given)
    assert sent == [7]
    assert all(torch.equal(sum_, 2 * value) for sum_, value in zip(found, given, strict=True))
    assert [sum_.shape for sum_ in found] == [value.shape for value in given]
