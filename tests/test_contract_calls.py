"""What the loss may answer, how often it is called, and where estimators can be made and traced."""

import warnings
from collections.abc import Callable

import pytest
import torch
from examples import EXAMPLES, Example
from simulate import size
from torch import Tensor, nn

from ils_lightning.estimators import Estimator, Exact, Sampler
from ils_lightning.testing.laws import gradient


def rewarded(z: Tensor) -> Tensor:
    """1 where both the first latents fall into the first category, in the dtype of z."""
    return z[..., :2, 0].prod(dim=-1)


ANSWERS = {
    "bool": (lambda z: rewarded(z) > 0, r"given bool \(use \.float\(\)\)"),
    "integer": (lambda z: rewarded(z).long(), r"given int64 \(use \.float\(\)\)"),
    "complex": (lambda z: rewarded(z) + 1j, r"given complex64 \(use \.real or \.abs\(\)\)"),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_loss_must_answer_floating_point_numbers(example: Example, answer: str):
    f, given = ANSWERS[answer]
    logits = torch.zeros(4, *size(example.make()), requires_grad=True)
    for call in (example.make(), example.make().value):
        with pytest.raises(ValueError, match=f"the loss f must answer floating-point numbers; {given}"):
            call(logits, f)


@pytest.mark.parametrize("given", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("answer", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_loss_may_answer_in_a_precision_of_its_own(example: Example, answer: torch.dtype, given: torch.dtype):
    """Draws are chosen by float64 noise, and the values of the loss are exact in every dtype."""
    estimator = example.make()
    logits = torch.randn(64, *size(estimator)).to(torch.bfloat16).to(given)

    def f(z: Tensor) -> Tensor:
        return (2 * z[..., 0].sum(dim=-1) + z[..., 1].sum(dim=-1)).to(answer)

    found = gradient(estimator, logits, f)
    assert found.dtype == given
    assert torch.isfinite(found).all()
    assert found.abs().max() > 0
    assert example.make()(logits.clone().requires_grad_(), f).dtype == answer


@pytest.mark.parametrize("answer", [torch.float64, torch.bfloat16])
def test_exact_gradient_of_a_loss_in_another_precision(answer: torch.dtype):
    logits = torch.randn(5, 2, 3)
    same = gradient(Exact(), logits, lambda z: z[..., 0].sum(dim=-1))
    torch.testing.assert_close(gradient(Exact(), logits, lambda z: z[..., 0].sum(dim=-1).to(answer)), same)


@pytest.mark.parametrize("shape", [(3, 0, 2), (3, 2, 0), (0, 2)], ids=str)
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_no_latents_or_no_categories(example: Example, shape: tuple[int, ...]):
    estimator = example.make()
    for call in (estimator, estimator.value):
        with pytest.raises(ValueError, match=r"at least one of both; given float32 \["):
            call(torch.zeros(shape, requires_grad=True), lambda z: z.sum(dim=(-2, -1)))


@pytest.mark.parametrize("example", [e for e in EXAMPLES if not isinstance(e.make(), Sampler)], ids=str)
def test_what_is_no_sampler_says_so(example: Example):
    with pytest.raises(ValueError, match=r"is no sampler.*estimator\(logits, f\).*ReinMax"):
        example.make().sample(torch.zeros(3, *size(example.make())))


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_made_on_the_device_meta(example: Example):
    with torch.device("meta"):
        estimator = example.make()
        with pytest.raises(ValueError, match="must be"):
            Estimator.option(estimator, "temperature", float("nan"))
    options = {name: getattr(estimator, name) for name in example.make().ranges}
    assert options == {name: getattr(example.make(), name) for name in options}
    assert all(parameter.is_meta for parameter in estimator.parameters())


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_running_statistics_move_as_often_as_is_declared(example: Example):
    estimator = example.make()
    latents, categories = size(estimator)
    norm = nn.BatchNorm1d(latents * categories)

    def f(z: Tensor) -> Tensor:
        return norm(z.flatten(-2).flatten(0, -2)).square().sum(dim=-1).unflatten(0, z.shape[:-2])

    estimator(torch.randn(6, latents, categories, requires_grad=True), f).mean().backward()
    assert norm.num_batches_tracked == estimator.calls


class Traced(nn.Module):
    def __init__(self, estimator: Estimator, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.estimator, self.f = estimator, f

    def forward(self, logits: Tensor) -> Tensor:
        return self.estimator(logits, self.f)


TWICE = {"Rebar", "Relax"}
"""They differentiate gradients, which a trace cannot hold."""


@pytest.mark.parametrize("example", [e for e in EXAMPLES if type(e.make()).__name__ not in TWICE], ids=str)
def test_trace(example: Example):
    estimator = example.make()
    estimator.build(*size(estimator))
    logits = torch.full((3, *size(estimator)), -40.0)
    logits[..., 1] = 40.0  # leaves no choice
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        module = Traced(estimator, lambda z: 3 * z[..., 1].sum(dim=-1))
        trace = torch.jit.trace(module, logits, check_trace=False)
    torch.testing.assert_close(trace(logits), module(logits).detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_deterministic_algorithms(example: Example):
    estimator, logits = example.make(), torch.randn(6, *size(example.make()))
    expected = gradient(example.make(), logits, lambda z: z[..., 0].sum(dim=-1).square())
    torch.use_deterministic_algorithms(True)
    try:
        found = gradient(estimator, logits, lambda z: z[..., 0].sum(dim=-1).square())
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(found, expected)
