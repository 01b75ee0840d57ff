"""Router: gradients against enumeration, dense and sparse combination, masks, load, refusals."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from ils_lightning.estimators import LeaveOneOut, Reinforce, ReinMax, SparseMixer, StraightThrough, TopKReinMax
from ils_lightning.layers import Router

TOKENS = 60_000


def experts(count: int = 4, width: int = 3) -> Tensor:
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def cost(weights: Tensor, outputs: Tensor) -> Tensor:
    """A curved loss of the combined output, `[*any]`."""
    return (weights @ outputs - 0.5).square().sum(dim=-1)


def exact(theta: Tensor, k: int) -> Tensor:
    """Gradient of the expected cost with probabilities as weights, over subsets of k, by enumeration."""
    theta, outputs, total = theta.clone().requires_grad_(), experts(), 0.0
    subsets = torch.zeros(0, 4, dtype=torch.float64)
    for chosen in itertools.combinations(range(4), k):
        subsets = torch.cat([subsets, nn.functional.one_hot(torch.tensor(chosen), 4).sum(0, keepdim=True).double()])
    p = (subsets @ theta).softmax(dim=0)
    total = (p * cost(subsets * theta.softmax(-1), outputs)).sum()
    (g,) = torch.autograd.grad(total, theta)
    return g


@pytest.mark.parametrize(("k", "estimator"), [(1, ReinMax()), (2, TopKReinMax(size=2)), (3, TopKReinMax(size=3))])
def test_second_order_routing_is_unbiased_for_a_quadratic_cost(k, estimator):
    torch.manual_seed(0)
    theta = torch.tensor([0.5, -0.3, 0.1, 0.9], dtype=torch.float64)
    logits = theta.repeat(TOKENS, 1).requires_grad_()
    routing = Router(4, k, estimator)(logits)
    assert (routing.weights > 0).sum() == k * TOKENS
    cost(routing.weights, experts()).sum().backward()
    score = (logits.grad.mean(0) - exact(theta, k)) / (logits.grad.var(0) / TOKENS).sqrt()
    assert score.abs().max() < 4.5


def test_straight_through_is_biased_there():
    torch.manual_seed(0)
    theta = torch.tensor([0.5, -0.3, 0.1, 0.9], dtype=torch.float64)
    logits = theta.repeat(TOKENS, 1).requires_grad_()
    cost(Router(4, 1, StraightThrough())(logits).weights, experts()).sum().backward()
    score = (logits.grad.mean(0) - exact(theta, 1)) / (logits.grad.var(0) / TOKENS).sqrt()
    assert score.abs().max() > 6


def test_credit_of_a_score_function_is_unbiased_with_the_gate_outside():
    torch.manual_seed(0)
    theta = torch.tensor([0.5, -0.3, 0.1, 0.9], dtype=torch.float64)
    logits = theta.repeat(2, TOKENS // 2, 1).requires_grad_()
    routing = Router(4, 1, LeaveOneOut())(logits)
    routing.credit(cost(routing.weights, experts())).sum().backward()  # the gate's own gradient is in the cost's graph
    found = logits.grad.mean(dim=0)
    score = (found.mean(0) - exact(theta, 1)) / (found.var(0) / len(found)).sqrt()
    assert score.abs().max() < 4.5


@pytest.mark.parametrize("k", [1, 2])
def test_sparse_combination_gives_the_gradients_of_the_dense_one_where_slopes_are_of_the_drawn(k):
    outputs, found = experts(), []
    for sparse in (False, True):
        torch.manual_seed(0)
        logits = torch.randn(50, 4, dtype=torch.float64, requires_grad=True)
        routing = Router(4, k, SparseMixer())(logits)
        drawn = (routing.drawn_weights().unsqueeze(-1) * outputs[routing.experts]).sum(dim=-2)
        combined = drawn if sparse else routing.weights @ outputs
        (combined - 0.5).square().sum().backward()
        found.append(logits.grad)
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("combine", ["probabilities", "renormalized", "even"])
def test_weights_of_the_drawn_experts(combine):
    logits = torch.randn(20, 4)
    routing = Router(4, 2, TopKReinMax(size=2), combine)(logits)
    p = logits.softmax(-1).gather(-1, routing.experts)
    expected = {"probabilities": p, "renormalized": p / p.sum(-1, keepdim=True), "even": torch.full_like(p, 0.5)}
    torch.testing.assert_close(routing.drawn_weights(), expected[combine])


@pytest.mark.parametrize("estimator", [ReinMax(), TopKReinMax(size=2)], ids=str)
def test_drawn_experts_alone_have_no_gradient_by_an_estimator_that_uses_all_slopes(estimator):
    outputs, k = experts().float(), estimator.ones
    logits = torch.randn(50, 4, requires_grad=True)
    router = Router(4, k, estimator)
    routing = router(logits)
    assert routing.drawn_weights().detach().gt(0).all()
    alone = (routing.drawn_weights().unsqueeze(-1) * outputs[routing.experts]).sum()
    with pytest.raises(ValueError, match=r"uses the slopes at all experts.*weigh the output of each.*SparseMixer"):
        alone.backward()
    (router(logits).weights @ outputs).sum().backward()
    router.eval()(logits).drawn_weights().sum().backward()  # nothing is drawn: the gradient is that of a gate
    assert logits.grad.abs().max() > 0


@pytest.mark.parametrize("estimator", [ReinMax(), SparseMixer(), TopKReinMax(size=2)])
def test_evaluation_takes_the_likeliest(estimator):
    k = 2 if isinstance(estimator, TopKReinMax) else 1
    logits = torch.randn(20, 4)
    routing = Router(4, k, estimator).eval()(logits)
    assert torch.equal(routing.experts.sort(-1).values, logits.topk(k).indices.sort(-1).values)
    torch.testing.assert_close(routing.drawn_weights(), logits.softmax(-1).gather(-1, routing.experts))


def test_masked_tokens_count_nowhere():
    torch.manual_seed(0)
    logits = torch.randn(6, 5, 4, requires_grad=True)
    mask = torch.rand(6, 5) > 0.4
    routing = Router(4, 1, "ILSCV")(logits, mask)
    assert (routing.weights[~mask] == 0).all()
    (cost(routing.weights.double(), experts()).sum() + routing.balance).backward()
    assert (logits.grad[~mask] == 0).all()
    alone = Router(4, 1, "ReinMax").eval()(logits[mask])
    among = Router(4, 1, "ReinMax").eval()(logits, mask)
    torch.testing.assert_close(among.balance, alone.balance)
    torch.testing.assert_close(among.load, alone.load)


@pytest.mark.parametrize("estimator", [ReinMax(), SparseMixer(), LeaveOneOut(), StraightThrough()])
@pytest.mark.parametrize("training", [True, False])
def test_what_padding_holds_reaches_nothing(estimator, training):
    found = []
    for padding in (0.0, float("nan")):
        torch.manual_seed(0)
        logits = torch.randn(4, 6, 4)
        mask = torch.rand(4, 6) > 0.4
        logits = logits.masked_fill(~mask.unsqueeze(-1), padding).requires_grad_()
        routing = Router(4, 1, estimator).train(training)(logits, mask)
        costs = cost(routing.weights.double(), experts())
        total = costs if routing.credit is None else routing.credit(costs)
        (torch.where(mask, total, 0).sum() + routing.balance).backward()
        assert torch.isfinite(logits.grad).all()
        found.append((routing.weights.detach(), routing.load, routing.balance.detach(), logits.grad))
    torch.testing.assert_close(found[0], found[1])


def test_costs_of_padding_are_in_no_baseline():
    found = []
    for padding in (0.0, 1e6):
        torch.manual_seed(0)
        logits, mask = torch.randn(4, 6, 4, requires_grad=True), torch.rand(4, 6) > 0.4
        routing = Router(4, 1, LeaveOneOut())(logits, mask)
        routing.credit(torch.where(mask, routing.weights.sum(-1).detach(), padding)).sum().backward()
        found.append(logits.grad)
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("estimator", [ReinMax(), SparseMixer(), TopKReinMax(size=1), LeaveOneOut()])
def test_weights_have_the_type_of_the_logits(estimator, dtype):
    logits = torch.randn(5, 4, dtype=dtype, requires_grad=True)
    routing = Router(4, 1, estimator)(logits)
    assert routing.weights.dtype == routing.load.dtype == dtype
    routing.weights.sum().backward()
    assert logits.grad.dtype == dtype


def test_balance_is_one_and_entropy_full_where_the_load_is_even():
    logits = 50 * torch.eye(4).repeat(3, 1)
    routing = Router(4)(logits)
    torch.testing.assert_close(routing.balance, torch.tensor(1.0))
    torch.testing.assert_close(routing.load_entropy(), torch.tensor(4.0).log())
    torch.testing.assert_close(Router(4)(logits[:1]).balance, torch.tensor(4.0))


def test_a_mixture_of_experts_learns_to_route():
    torch.manual_seed(0)
    gate, outputs, router = nn.Linear(4, 4), torch.eye(4), Router(4, estimator="ReinMax", combine="even")
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.05)
    for _ in range(150):
        x = torch.randint(4, (64,))
        routing = router(gate(nn.functional.one_hot(x, 4).float()))
        loss = (routing.weights @ outputs - outputs[(x + 1) % 4]).square().sum(-1).mean()
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    assert torch.equal(router.eval()(gate(torch.eye(4))).experts[:, 0], (torch.arange(4) + 1) % 4)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"experts": 4, "top_k": 2}, r"TopKReinMax\(size=2\)"),
        ({"experts": 4, "top_k": 4}, "top_k must be"),
        ({"experts": 4, "combine": "sum"}, "combine must be"),
        ({"experts": 4, "estimator": "Exact"}, "neither draws"),
        ({"experts": 4, "estimator": "GumbelSoftmax"}, "give all experts a weight"),
        ({"experts": 4, "estimator": "SparsemaxMarginal"}, "neither draws"),
        ({"experts": 4, "top_k": 2, "estimator": Reinforce()}, "draws 1 of the experts"),
        (
            {"experts": 4, "top_k": 2, "estimator": "TopKGate"},
            r"TopKGate takes 1 .* is 2; give TopKGate\(size=2\)$",
        ),
        ({"experts": 4, "top_k": 2, "estimator": "TopKSubset"}, r"draws 1 .* is 2; give TopKSubset\(size=2\)$"),
        ({"experts": 4, "top_k": 1, "estimator": TopKReinMax(2)}, r"draws 2 .* is 1; give TopKReinMax\(size=1\)$"),
    ],
)
def test_refusals(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        Router(**arguments)


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\[\*batch, 4\]"):
        Router(4)(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"mask \[\*batch\]"):
        Router(4)(torch.zeros(3, 4), torch.ones(4))


@pytest.mark.parametrize("k", [1, 2])
def test_renormalized_weights_have_the_gradient_of_the_expectation(k):
    """Of a loss linear in the weights, which are quadratic in the draw: against the sum over all subsets."""
    torch.manual_seed(0)
    theta, w = torch.tensor([0.5, -0.3, 0.1, 0.9], dtype=torch.float64), torch.tensor([1.0, -2.0, 0.5, 0.0]).double()
    leaf, chosen = theta.clone().requires_grad_(), list(itertools.combinations(range(4), k))
    p = torch.stack([leaf[list(one)].sum() for one in chosen]).softmax(0)
    weights = [leaf.softmax(-1)[list(one)] / leaf.softmax(-1)[list(one)].sum() for one in chosen]
    value = (p * torch.stack([(weights[i] * w[list(one)]).sum() for i, one in enumerate(chosen)])).sum()
    (expected,) = torch.autograd.grad(value, leaf)
    logits = theta.repeat(TOKENS, 1).requires_grad_()
    routing = Router(4, k, TopKReinMax(size=k), "renormalized")(logits)
    torch.testing.assert_close(routing.weights.sum(-1), torch.ones(TOKENS).double())
    (routing.weights @ w).sum().backward()
    score = (logits.grad.mean(0) - expected) / (logits.grad.var(0) / TOKENS).sqrt()
    assert score.abs().max() < 4.5


def test_sparse_mixer_weighs_in_evaluation_as_in_training():
    """By the probability among what is left: of the top, then of the top of the others, masked by jitter anew."""
    torch.manual_seed(0)
    estimator, logits = SparseMixer(jitter=0.4), torch.randn(200, 5, dtype=torch.float64)
    routing = Router(5, 2, estimator).eval()(logits)
    first = estimator.masked(logits).softmax(-1).max(-1)
    left = logits.scatter(-1, first.indices.unsqueeze(-1), float("-inf"))
    second = estimator.masked(left).softmax(-1).max(-1)
    expected = torch.zeros_like(logits)
    for one in (first, second):
        expected.scatter_(-1, one.indices.unsqueeze(-1), one.values.unsqueeze(-1))
    torch.testing.assert_close(routing.weights, expected)


@pytest.mark.parametrize("training", [True, False])
def test_masked_tokens_have_no_expert(training):
    mask = torch.tensor([True, False, True])
    routing = Router(4, 2, TopKReinMax(size=2)).train(training)(torch.randn(3, 4), mask)
    assert torch.equal(routing.experts[1], torch.tensor([-1, -1]))
    assert (routing.experts[mask] >= 0).all()
    assert (routing.drawn_weights()[1] == 0).all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("estimator", [SparseMixer(), TopKReinMax(size=2)])
def test_refuses_a_token_whose_experts_run_out(estimator, training):
    logits = torch.randn(3, 4)
    logits[1, 1:] = float("-inf")
    with pytest.raises(ValueError, match="a token has 1 that are not masked"):
        Router(4, 2, estimator).train(training)(logits)


def test_credit_in_evaluation_hands_the_cost_back():
    logits = torch.randn(3, 4, requires_grad=True)
    routing = Router(4, 1, LeaveOneOut()).eval()(logits, torch.tensor([True, True, False]))
    cost = routing.credit(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(cost, torch.tensor([1.0, 2.0, 0.0]))
    cost.sum().backward()
    assert (logits.grad == 0).all()


def test_load_of_many_tokens_in_half_precision():
    routing = Router(4)(torch.zeros(100_000, 4, dtype=torch.float16))
    torch.testing.assert_close(routing.balance.float(), torch.tensor(1.0), rtol=0.01, atol=0)
    torch.testing.assert_close(routing.load.float(), torch.full((4,), 0.25), rtol=0.03, atol=0)


def test_refuses_renormalized_weights_of_three():
    with pytest.raises(ValueError, match="no quadratic function"):
        Router(8, 3, TopKReinMax(size=3), "renormalized")


@pytest.mark.parametrize("estimator", [ReinMax(), SparseMixer(), Reinforce()])
@pytest.mark.parametrize("training", [True, False])
def test_a_single_token_needs_no_batch_axis(estimator, training):
    routing = Router(4, 1, estimator).train(training)(torch.randn(4))
    assert routing.weights.shape == (4,)
    assert routing.experts.shape == (1,)
