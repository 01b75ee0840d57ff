"""Laws 1 and 5 to 9: what holds exactly, for the same seed."""

import copy

import pytest
import torch
from examples import EXAMPLES, LAWS, Example, obeying
from mutants import LearntBaseline, TrainedOnTheLoss, TrainsTheModel
from problems import quadratic
from simulate import problem_for
from torch import Tensor

import ils_lightning.estimators as package
from ils_lightning.estimators import Estimator
from ils_lightning.testing import laws
from ils_lightning.testing.laws import gradient
from ils_lightning.type_hints import is_abstract


def concrete(base: type[Estimator] = Estimator) -> set[type[Estimator]]:
    """The package's public estimators, found by walking the subclasses."""
    below = {c for child in base.__subclasses__() for c in concrete(child) | {child}}
    finished = {c for c in below if not is_abstract(c)}
    return {c for c in finished if c.__module__.startswith(package.__name__) and not c.__name__.startswith("_")}


def test_every_estimator_has_an_example():
    left = {c.__name__ for c in concrete() - {type(e.make()) for e in EXAMPLES}}
    assert left == {"Grouped"}  # whose groups are an axis; see test_grouped
    assert {c.__name__ for c in concrete()} <= set(package.__all__)


def test_exemptions_name_a_law_and_a_reason():
    assert {law for e in EXAMPLES for law in e.exempt} <= set(LAWS)
    assert all(len(reason) > 10 for e in EXAMPLES for reason in e.exempt.values())
    assert len({e.name for e in EXAMPLES}) == len(EXAMPLES)


@pytest.mark.parametrize("example", obeying("shapes"))
def test_shapes_and_dtype(example: Example):
    laws.shapes(example.make)


@pytest.mark.parametrize("example", obeying("shapes"))
def test_strided_logits_give_the_same_gradient(example: Example):
    latents, categories = (3, 2) if example.make().binary else (3, 5)
    logits = torch.randn(categories, 4, latents).permute(1, 2, 0)
    f = quadratic(latents, categories).loss()
    assert not logits.is_contiguous()
    strided, packed = (gradient(example.make(), x, f) for x in (logits, logits.contiguous()))
    torch.testing.assert_close(strided, packed)


@pytest.mark.parametrize("example", obeying("scale"))
def test_gradient_follows_the_factor_on_the_loss(example: Example):
    laws.scale(example.make)


@pytest.mark.parametrize("example", obeying("scale"))
def test_row_of_factor_zero_gets_nothing(example: Example):
    problem = problem_for(example.make(), "mlp")
    factor = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    grad = gradient(example.make().double(), problem.logits.expand(4, -1, -1), problem.loss(), scale=factor)
    assert (grad[1] == 0).all()
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("example", [p for p in obeying("rows") if not p.values[0].make().pooled])
def test_rows_are_independent_given_the_noise(example: Example):
    problem = problem_for(example.make(), "mlp")
    logits = problem.logits.expand(4, -1, -1).clone()
    others, factor = logits + torch.randn_like(logits), torch.tensor([1.0, 7.0, -3.0, 0.5])
    others[0] = logits[0]
    alone = gradient(example.make().double(), logits, problem.loss())
    among = gradient(example.make().double(), others, lambda z: factor.to(z) * problem.base(z))
    torch.testing.assert_close(among[0], alone[0])
    assert not torch.allclose(among[1:], alone[1:])


@pytest.mark.parametrize("example", obeying("evaluations"))
def test_loss_is_evaluated_the_documented_number_of_times(example: Example):
    laws.evaluations(example.make)


def loss_and_inside(estimator: Estimator) -> tuple[Tensor, Tensor]:
    """A loss linear in theta, and theta times what theta receives: alike when theta hears that loss and no other."""
    shape = (5, *problem_for(estimator, "mlp").logits.shape)
    theta = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    loss = estimator(logits, lambda z: (theta * z).sum(dim=(-2, -1)))
    (mean_draw,) = torch.autograd.grad(loss.sum(), theta)
    return loss.detach(), (mean_draw * theta).sum(dim=(-2, -1)).detach()


@pytest.mark.parametrize("example", obeying("theta path"))
def test_parameter_inside_the_loss_follows_the_returned_loss(example: Example):
    torch.testing.assert_close(*loss_and_inside(example.make().double()))


@pytest.mark.parametrize("example", obeying("theta path"))
def test_estimate_and_backward_are_the_same(example: Example):
    estimator, again = example.make().double(), example.make().double()
    problem = problem_for(estimator, "mlp")
    logits = problem.logits.expand(4, -1, -1)
    torch.manual_seed(3)
    _, estimate = again.estimate(logits, problem.loss())
    torch.testing.assert_close(gradient(estimator, logits, problem.loss()), estimate.detach(), rtol=1e-9, atol=1e-12)


def own_gradients(estimator: Estimator) -> list[tuple[Tensor, Tensor]]:
    """Per own parameter: what backward delivers, and d mean |estimate|^2 from `estimate` alone."""
    problem = problem_for(estimator, "mlp")
    estimator.build(*problem.logits.shape)
    alone = copy.deepcopy(estimator)
    own, twin = ([p for p in e.parameters() if p.requires_grad] for e in (estimator, alone))
    logits = problem.logits.expand(16, -1, -1).clone().requires_grad_()
    torch.manual_seed(3)
    _, estimate = alone.estimate(logits, problem.loss())
    square = estimate.square().sum(dim=(-2, -1)).mean()
    expected = torch.autograd.grad(square, twin, allow_unused=True) if twin else ()
    torch.manual_seed(3)
    estimator(logits, problem.loss()).mean().backward()
    zeros = [torch.zeros_like(p) for p in own]
    return [
        (zero if p.grad is None else p.grad, zero if e is None else e)
        for p, e, zero in zip(own, expected, zeros, strict=True)
    ]


@pytest.mark.parametrize("example", [*obeying("own"), Example("LearntBaseline", LearntBaseline)], ids=str)
def test_own_parameters_train_on_the_square_of_the_estimate_alone(example: Example):
    estimator = example.make().double()
    pairs = own_gradients(estimator)
    torch.testing.assert_close([got for got, _ in pairs], [expected for _, expected in pairs])
    assert not pairs or max(expected.abs().max() for _, expected in pairs) > 0


def test_mutated_training_is_rejected():
    ((got, expected),) = own_gradients(TrainedOnTheLoss().double())
    assert not torch.allclose(got, expected)
    assert not torch.allclose(*loss_and_inside(TrainsTheModel().double()))
