"""Inside torch.func (vmap, grad) and torch.compile an estimator serves, or says in one line why it does not."""

from typing import Any

import pytest
import torch
from examples import EXAMPLES, Example
from problems import truth
from simulate import problem_for, size, worst_score
from torch import Tensor
from torch.func import grad, vmap

from ils_lightning.estimators import Exact, GumbelSoftmax, LeaveOneOut, Pullback, ReinMax, Sampler, StraightThrough
from ils_lightning.estimators.categorical import draw
from ils_lightning.testing.laws import gradient

THEMSELVES = {"ILSResidual", "ILSLeaveOneOut", "DoubleControlVariate", "Rodeo", "MuProp", "Rebar", "Relax"}
"""They differentiate the loss by themselves."""
SUPPORTS = {"SparsemaxMarginal", "EntmaxMarginal"}
LEARN = {"AdaptiveImplicitMLE", "Reinforce-average"}
"""With the pooled curvatures, which all of them are `Pullback`."""


def name_of(example: Example) -> str:
    return type(example.make()).__name__


def learns(example: Example) -> bool:
    estimator = example.make()
    return bool({example.name, name_of(example)} & LEARN) or (
        isinstance(estimator, Pullback) and estimator.pooled_by_state
    )


SERVE = [e for e in EXAMPLES if name_of(e) not in THEMSELVES | SUPPORTS]


def f(z: Tensor) -> Tensor:
    return (z[..., 0].sum(dim=-1) + 0.3).square()


@pytest.mark.parametrize("example", SERVE, ids=str)
def test_gradients_of_each_row_by_vmap_of_grad(example: Example):
    estimator = example.make().eval()
    estimator.build(*size(estimator))
    logits = torch.randn(5, 3, *size(estimator))
    before = {n: b.clone() for n, b in estimator.named_buffers()}
    found = vmap(grad(lambda x: estimator(x, f).sum()), randomness="different")(logits)
    assert found.shape == logits.shape
    assert torch.isfinite(found).all()
    assert found.abs().max() > 0
    assert torch.isfinite(grad(lambda x: estimator(x, f).sum())(logits)).all()
    torch.testing.assert_close(dict(estimator.named_buffers()), before)


@pytest.mark.parametrize("example", [e for e in SERVE if e.make().unbiased], ids=str)
def test_gradients_by_vmap_are_unbiased(example: Example):
    estimator = example.make().double()
    problem = problem_for(estimator, "mlp")
    estimator.build(*problem.logits.shape)
    logits = problem.logits.expand(100 if name_of(example) == "Exact" else 20_000, -1, -1)
    found = vmap(grad(lambda x: estimator.eval()(x, problem.base)), randomness="different")(logits)
    expected = truth(problem, example.objective)["gradient"]
    error = (found.var(dim=0) / len(found)).sqrt()
    assert worst_score(found.mean(dim=0) - expected, error, scale=expected.abs()) < 1
    assert worst_score(0.9 * found.mean(dim=0) - expected, error, scale=expected.abs()) > 1


@pytest.mark.parametrize("make", [ReinMax, lambda: ReinMax(temperature=1.3)], ids=["1", "1.3"])
def test_vmap_of_grad_applies_the_pullback(make):
    """The draw is returned beside the gradient, so that the formula can be set beside it."""
    estimator, logits = make(), torch.randn(6, 2, 5)

    def loss(x: Tensor) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []
        value = estimator(x, lambda z: f(seen.append(z) or z))
        return value, seen[0].squeeze(0)

    found, z = vmap(grad(loss, has_aux=True), randomness="different")(logits)
    g = vmap(grad(f))(z)
    torch.testing.assert_close(found, estimator.pullback(logits, logits.softmax(dim=-1), z, g))


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.name != "EntmaxMarginal"], ids=str)
def test_validation_under_vmap(example: Example):
    estimator = example.make()
    with torch.no_grad():
        found = vmap(lambda x: estimator(x, f), randomness="different")(torch.zeros(50, 3, *size(estimator)))
    assert found.shape == (50, 3)
    assert len(found.unique()) > 1


def test_validation_by_another_package_says_that_it_cannot_be_transformed():
    (example,) = [e for e in EXAMPLES if e.name == "EntmaxMarginal"]
    with torch.no_grad(), pytest.raises(ValueError, match=r"EntmaxMarginal takes its probabilities.*torch\.func"):
        vmap(lambda x: example.make()(x, f), randomness="different")(torch.zeros(50, 3, *size(example.make())))


@pytest.mark.parametrize("example", [e for e in EXAMPLES if isinstance(e.make(), Sampler)], ids=str)
def test_samples_under_vmap(example: Example):
    logits = torch.randn(4, 3, *size(example.make()))
    z = vmap(example.make().sample, in_dims=1, out_dims=1, randomness="different")(logits)
    assert z.shape == logits.shape
    assert (z >= 0).all()


@pytest.mark.parametrize("categories", [5, 40, 300])
def test_draws_under_vmap(categories: int):
    pi = torch.full((50, 3, categories), 1 / categories)
    z = vmap(draw, randomness="different")(pi)
    assert ((z == 0) | (z == 1)).all()
    assert (z.sum(dim=-1) == 1).all()
    assert len(z.unique(dim=0)) > 1


REFUSED = {
    "differentiates the loss by itself": [e for e in EXAMPLES if name_of(e) in THEMSELVES],
    "counts the support of each row": [e for e in EXAMPLES if name_of(e) in SUPPORTS],
    r"learns from its draws until \.eval\(\) is called": [e for e in EXAMPLES if learns(e) and e in SERVE],
}


@pytest.mark.parametrize(
    ("reason", "example"), [(why, e) for why, several in REFUSED.items() for e in several], ids=lambda x: str(x)[:20]
)
def test_what_cannot_be_transformed_says_why(reason: str, example: Example):
    estimator, logits = example.make(), torch.randn(3, 2, *size(example.make()))
    estimator.build(*size(estimator))
    before = {n: b.clone() for n, b in estimator.named_buffers()}
    for transform in (lambda g: g, lambda g: vmap(g, randomness="different")):
        with pytest.raises(ValueError, match=rf"{reason}, for which torch.func \(vmap, grad\) has no place"):
            transform(grad(lambda x: estimator(x, f).sum()))(logits)
    torch.testing.assert_close(dict(estimator.named_buffers()), before)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by torch.func.jvp itself
@pytest.mark.parametrize("estimator", [ReinMax(), LeaveOneOut()], ids=["ReinMax", "LeaveOneOut"])
def test_forward_mode_and_several_gradients_at_a_time_are_refused_in_one_line(estimator: Any):
    logits = torch.zeros(4, 2, 3, requires_grad=True)
    with pytest.raises(ValueError, match=r"has no forward mode \(jvp"):
        torch.func.jvp(lambda x: estimator(x, f).sum(), (logits.detach(),), (torch.ones(4, 2, 3),))
    with pytest.raises(ValueError, match=r"one upstream gradient a backward pass, not several"):
        torch.autograd.grad(estimator(logits, f), logits, torch.eye(4), is_grads_batched=True)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by torch.func.jvp itself
def test_a_draw_has_no_forward_mode_and_serves_one_gradient_at_a_time():
    logits = torch.zeros(4, 2, 3, requires_grad=True)
    with pytest.raises(ValueError, match=r"has no forward mode \(jvp"):
        torch.func.jvp(lambda x: f(ReinMax().sample(x)).sum(), (logits.detach(),), (torch.ones(4, 2, 3),))
    with pytest.raises(ValueError, match=r"one upstream gradient a backward pass, not several"):
        torch.autograd.grad(f(ReinMax().sample(logits)), logits, torch.eye(4), is_grads_batched=True)


def test_losses_without_gradient_and_unused_rows_inside_transforms():
    logits = torch.randn(4, 2, 3)
    for estimator in (ReinMax(), GumbelSoftmax()):
        with pytest.raises(ValueError, match="needs a loss f that is differentiable in z"):
            grad(lambda x, e=estimator: e(x, lambda z: z.detach().sum(dim=(-2, -1))).sum())(logits)
    bad = torch.tensor([0.0, 0.0, 0.0, float("nan")])
    for estimator in (ReinMax(), GumbelSoftmax(), LeaveOneOut(), Exact()):
        found = grad(lambda x, e=estimator: e(x, lambda z: f(z) + z.sum(dim=(-2, -1)) * bad)[:3].sum())(logits)
        assert torch.isfinite(found).all()
        assert (found[3] == 0).all()


@pytest.mark.slow
def test_compiled_draws_of_changing_size_take_a_generator_too():
    torch._dynamo.reset()
    step = torch.compile(lambda pi: draw(pi, 3), backend="eager")
    for rows in (64, 64, 37):
        assert (step(torch.full((rows, 2, 5), 0.2)).sum(dim=-1) == 1).all()
    ours, again = (draw(torch.full((9, 5), 0.2), generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(ours, again)


def test_same_gradient_outside_transforms_as_inside():
    logits = torch.randn(6, 2, 5)
    for estimator in (ReinMax(), LeaveOneOut(), Exact()):
        outside = gradient(estimator, logits, f)
        torch.manual_seed(3)
        torch.testing.assert_close(grad(lambda x, e=estimator: e(x, f).sum())(logits), outside)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler's own
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # and this
@pytest.mark.parametrize("estimator", [ReinMax(), StraightThrough()])
def test_a_compiled_draw_has_a_gradient(estimator: ReinMax):
    torch._dynamo.reset()
    w, found = torch.randn(5, 2, 3), []
    step = torch.compile(lambda x: (estimator.sample(x) * w).sum(), backend="eager")
    for run in (step, lambda x: (estimator.sample(x) * w).sum()):
        x = torch.zeros(5, 2, 3, requires_grad=True)
        torch.manual_seed(0)
        run(x).backward()
        found.append(x.grad)
    assert found[1].abs().sum() > 0
    torch.testing.assert_close(found[0], found[1])
