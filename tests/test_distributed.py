"""Ranks that share a batch compute what one process computes on the whole of it, given the same draws."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ils_lightning.estimators import (
    ILSCV,
    AdaptiveImplicitMLE,
    Estimator,
    ILSDiagonal,
    ILSIsotropic,
    ILSLeaveOneOut,
    ILSNewton,
    ILSResidual,
    LeaveOneOut,
    Rebar,
    Reinforce,
    ReinMax,
    Relax,
)
from ils_lightning.estimators.baselines import MovingAverage, NetworkBaseline

ROWS, STEPS = 20, 4


def estimators() -> dict[str, Estimator]:
    torch.manual_seed(1)
    return {
        "LeaveOneOut": LeaveOneOut(),
        "MovingAverage": Reinforce(baseline=MovingAverage()),
        "NetworkBaseline": Reinforce(baseline=NetworkBaseline()),
        "ReinMax": ReinMax(),
        "ILSCV": ILSCV(),
        "ILSNewton": ILSNewton(),
        "ILSDiagonal": ILSDiagonal(),
        "ILSIsotropic": ILSIsotropic(),
        "ILSResidual": ILSResidual(),
        "ILSLeaveOneOut": ILSLeaveOneOut(),
        "AdaptiveImplicitMLE": AdaptiveImplicitMLE(),
        "Rebar": Rebar(),
        "Relax": Relax(),
    }


class Model(nn.Module):
    """An encoder, an estimator and a decoder."""

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder, self.estimator = nn.Linear(3, 2 * 3), nn.Linear(2 * 3, 3), estimator
        estimator.build(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        def f(z: Tensor) -> Tensor:
            return (self.decoder(z.flatten(-2)) - x).square().sum(-1)

        return self.estimator(self.encoder(x).unflatten(-1, (2, 3)), f).mean()


def shared_noise(rank: int, world: int) -> Any:
    """A `torch.rand` that draws for the whole batch and keeps this rank's rows."""
    draw = torch.rand

    def rand(*size: Any, generator: Any = None, **options: Any) -> Tensor:
        del generator
        shape = list(size[0]) if len(size) == 1 and not isinstance(size[0], int) else list(size)
        axis = shape.index(ROWS // world)
        shape[axis] = ROWS
        return draw(shape, **options).chunk(world, dim=axis)[rank]

    return rand


def train(rank: int, world: int, folder: Path) -> None:
    """Trains a model with every estimator on this rank's rows, and saves what rank 0 has learnt."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    x = torch.randn(STEPS, ROWS, 3, generator=torch.Generator().manual_seed(0)).chunk(world, dim=1)[rank]
    if world > 1:
        dist.init_process_group("gloo", f"file://{folder / 'store'}", rank=rank, world_size=world)
    learnt = {name: weights(estimator, x, rank, world) for name, estimator in estimators().items()}
    if rank == 0:
        torch.save(learnt, folder / "learnt.pt")
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


def weights(estimator: Estimator, x: Tensor, rank: int, world: int) -> dict[str, Tensor]:
    model = Model(estimator)
    shared = DistributedDataParallel(model, find_unused_parameters=True) if world > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    torch.manual_seed(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", shared_noise(rank, world))
        for batch in x:
            optimizer.zero_grad()
            shared(batch).backward()
            optimizer.step()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, dict[str, Tensor]]]:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    found = {}
    for world in (1, 2, 4):
        folder = tmp_path_factory.mktemp(f"world{world}")
        mp.start_processes(train, (world, folder), nprocs=world, start_method="fork")
        found[world] = torch.load(folder / "learnt.pt", weights_only=True)
    return found


@pytest.mark.parametrize("name", list(estimators()))
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_learn_what_one_process_learns(learnt: dict, name: str, world: int) -> None:
    alone, shared = learnt[1][name], learnt[world][name]
    assert alone.keys() == shared.keys()
    for key, value in alone.items():
        torch.testing.assert_close(shared[key], value, rtol=0, atol=1e-10, msg=lambda text, key=key: f"{key}: {text}")


def test_every_pooled_estimator_is_here() -> None:
    from examples import EXAMPLES

    here = {type(estimator).__name__ for estimator in estimators().values()}
    assert {type(example.make()).__name__ for example in EXAMPLES if example.make().pooled} <= here
