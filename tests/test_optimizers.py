"""FusedRAdam beside torch's RAdam."""

import copy

import pytest
import torch
from torch import Tensor, nn

from ils_lightning.optimizers import FusedRAdam

OPTIONS = {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.1}


def trained(make: type[torch.optim.Optimizer], steps: int, **options: object) -> Tensor:
    """Weights after training on data that are drawn anew, the learning rate halved on the way."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    optimizer = make(net.parameters(), **options)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(8, 5, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
        schedule.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["defaults", "others"])
@pytest.mark.parametrize("steps", [3, 60])
def test_weights_are_those_of_torch(steps, options):
    expected = trained(torch.optim.RAdam, steps, **options)
    # float64, up to the rounding of another order of operations over the steps
    torch.testing.assert_close(trained(FusedRAdam, steps, **options), expected, rtol=1e-9, atol=1e-10)


def test_adam_alone_would_not_do(monkeypatch):
    monkeypatch.setattr(FusedRAdam, "_rectify", lambda optimizer, group: None)
    assert (trained(FusedRAdam, 60) - trained(torch.optim.RAdam, 60)).abs().max() > 1e-3


def test_a_restored_state_goes_on_as_if_it_had_not_stopped():
    weights = [nn.Parameter(torch.ones(4)) for _ in range(2)]
    first, second = (FusedRAdam([w], lr=0.1) for w in weights)
    for step in range(20):
        if step == 9:
            second.load_state_dict(copy.deepcopy(first.state_dict()))
            weights[1].data.copy_(weights[0].data)
        for w, optimizer in zip(weights, (first, second), strict=True):
            w.grad = (w.detach() - 3) * (step + 1)
            optimizer.step()
    assert torch.equal(weights[0], weights[1])


def test_options_are_as_given_after_a_step():
    weight = nn.Parameter(torch.ones(4))
    optimizer = FusedRAdam([weight], lr=0.1)
    weight.grad = torch.ones(4)
    optimizer.step()
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["eps"]) == (0.1, 1e-8)
