"""A learning estimator shared by two layers is noticed, once; whatever a single layer may do is not."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from examples import EXAMPLES, Example
from torch import Tensor, nn

from ils_lightning.estimators import ILSCV, Average, Estimator, ILSNewton, MovingAverage, Rebar, Reinforce, ReinMax
from ils_lightning.modules import HierarchicalVAE

LEARNING = [example for example in EXAMPLES if example.make().learns]
SAYS = "each layer needs its own instance; this one was called for the logits of two layers"
X = torch.linspace(-1, 1, 24).sin().reshape(8, 3)


class Layer(nn.Module):
    """Logits of two latents of two categories."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(-1, (2, 2))


def f(z: Tensor) -> Tensor:
    return (z[..., 0].sum(dim=-1) - 0.3).square()


def two_layers(estimator: Estimator, steps: int = 3) -> int:
    """Number of warnings while two layers train with one estimator."""
    layers = Layer(), Layer()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(steps):
            sum(estimator(layer(X), f).sum() for layer in layers).backward()  # pyright: ignore[reportAttributeAccessIssue]
    return sum(SAYS in str(x.message) for x in seen)


@pytest.mark.parametrize("example", LEARNING, ids=lambda example: example.name)
def test_two_layers_are_noticed_once(example: Example):
    assert two_layers(example.make()) == 1


@pytest.mark.parametrize("make", [ReinMax, ILSCV, Reinforce])
def test_what_learns_nothing_serves_any_number_of_layers(make: Callable[[], Estimator]):
    assert two_layers(make()) == 0


def test_wrapped_in_an_average_they_are_noticed_too():
    assert two_layers(Average(ILSNewton(), samples=2)) == 1


def test_draws_alone_and_logits_without_parameters_are_noticed_too():
    estimator, leaves = ILSNewton(), [torch.zeros(8, 2, 2, requires_grad=True) for _ in range(2)]
    with pytest.warns(UserWarning, match=SAYS):
        sum(estimator.sample(leaf).square().sum() for leaf in leaves).backward()  # pyright: ignore[reportAttributeAccessIssue]


def test_layers_in_series_are_noticed_too():
    estimator, first, second = ILSNewton(), Layer(), Layer()
    z = estimator.sample(first(X))
    with pytest.warns(UserWarning, match=SAYS):
        estimator(second(z.flatten(-2)[..., :3]), f).sum().backward()


def accumulated(estimator: Estimator, layer: Layer) -> None:
    for x in X.split(4):
        estimator(layer(x), f).sum().backward()


def chunks_before_one_backward(estimator: Estimator, layer: Layer) -> None:
    torch.cat([estimator(layer(x), f) for x in X.split(2)]).sum().backward()


def recurrent(estimator: Estimator, layer: Layer) -> None:
    x, losses = X, []
    for _ in range(3):
        logits = layer(x)
        losses.append(estimator(logits, f))
        x = x + logits.flatten(-2)[..., :3]
    torch.stack(losses).sum().backward()


def validated_in_between(estimator: Estimator, layer: Layer) -> None:
    loss = estimator(layer(X), f)
    with torch.no_grad():
        estimator(Layer()(X), f)
    loss.sum().backward()


def measured_in_between(estimator: Estimator, layer: Layer) -> None:
    loss = estimator(layer(X), f)
    estimator.estimate(Layer()(X).detach(), f)
    loss.sum().backward()


def evaluated_in_between(estimator: Estimator, layer: Layer) -> None:
    loss = estimator(layer(X), f)
    estimator.eval()(Layer()(X), f)
    estimator.train()
    loss.sum().backward()


def dropped(estimator: Estimator, layer: Layer) -> None:
    estimator(Layer()(X), f)
    estimator(layer(X), f).sum().backward()


def copied(estimator: Estimator, layer: Layer) -> None:
    both = estimator(layer(X), f), copy.deepcopy(estimator)(Layer()(X), f)
    torch.stack(both).sum().backward()


def twice_through_one_graph(estimator: Estimator, layer: Layer) -> None:
    loss = estimator(layer(X), f).sum()
    loss.backward(retain_graph=True)
    estimator(Layer()(X), f).sum().backward()
    loss.backward()


RIGHT = [
    accumulated,
    chunks_before_one_backward,
    recurrent,
    validated_in_between,
    measured_in_between,
    evaluated_in_between,
    dropped,
    copied,
    twice_through_one_graph,
]


@pytest.mark.parametrize("use", RIGHT, ids=lambda use: use.__name__)
@pytest.mark.parametrize("make", [ILSNewton, Rebar, lambda: Reinforce(baseline=MovingAverage())])
def test_right_uses_are_left_in_peace(make: Callable[[], Estimator], use: Callable[[Estimator, Layer], None]):
    estimator, layer = make(), Layer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            use(estimator, layer)


@pytest.mark.parametrize("make", [ILSNewton, lambda: Rebar(learnt=False), lambda: Reinforce(baseline=MovingAverage())])
def test_layers_with_an_instance_each_are_left_in_peace(make: Callable[[], Estimator]):
    model = HierarchicalVAE(estimator=make(), latents=[4, 3, 2], categories=3, image_shape=[1, 8, 8])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            model.objective(torch.rand(6, 1, 8, 8).round()).loss.backward()


def test_gradients_are_those_of_logits_that_nobody_watches(monkeypatch: pytest.MonkeyPatch):
    def trained() -> list[Tensor]:
        torch.manual_seed(0)
        estimator, layer = ILSNewton(), Layer()
        for _ in range(3):
            estimator(layer(X), f).sum().backward()
        return [p.grad for p in layer.parameters() if p.grad is not None]

    watched = trained()
    monkeypatch.setattr(Estimator, "_watches", lambda estimator, logits: False)
    torch.testing.assert_close(watched, trained(), rtol=0, atol=0)
