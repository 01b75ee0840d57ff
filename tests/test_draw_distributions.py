"""What an estimator says of its draws: probabilities that add up, and the law of what the loss sees in training."""

import itertools

import pytest
import torch
from examples import EXAMPLES, Example
from pathwise import frequency_score
from simulate import Moments, problem_for, worst_score
from torch import Tensor

from ils_lightning.estimators import (
    Average,
    DecoupledStraightThroughGumbelSoftmax,
    EntmaxMarginal,
    Estimator,
    GumbelSoftmax,
    Redge,
    ReinMax,
    SparsemaxMarginal,
    SparseMixer,
    TopKSubset,
    Vimco,
)
from ils_lightning.estimators.distribution import Categorical

OWN = {
    "sparsemax": SparsemaxMarginal,
    "entmax": EntmaxMarginal,
    "entmax-1.2": lambda: EntmaxMarginal(1.2),
    "entmax-2.5": lambda: EntmaxMarginal(2.5),
    "decoupled": lambda: DecoupledStraightThroughGumbelSoftmax(0.5, 1.0),
    "pairs": lambda: TopKSubset(2),
    "triples": lambda: TopKSubset(3),
    "average": lambda: Average(TopKSubset(2), samples=3),
}
KINDS = {"softmax": ReinMax, **OWN}
MASKED = torch.tensor([0.3, -torch.inf, 0.1, 0.5, -0.4], dtype=torch.float64)
PLAIN = torch.tensor([0.3, 0.9, 0.1, 0.5, -0.4], dtype=torch.float64)
LOGITS = pytest.mark.parametrize("logits", [PLAIN, MASKED], ids=["plain", "masked"])


def of_every_kind(kinds: dict):
    return pytest.mark.parametrize("make", kinds.values(), ids=kinds)


def vectors(ones: int, categories: int = 5) -> Tensor:
    """All vectors with so many ones, `[states, categories]`."""
    chosen = torch.tensor(list(itertools.combinations(range(categories), ones)))
    return torch.nn.functional.one_hot(chosen, categories).sum(dim=1).double()


def by_hand(estimator: Estimator, logits: Tensor, z: Tensor) -> Tensor:
    """Probabilities of vectors z from the estimator's definition."""
    estimator = getattr(estimator, "estimator", estimator)
    if isinstance(estimator, SparsemaxMarginal):
        return z @ estimator.probabilities(logits)
    tau = getattr(estimator, "forward_temperature", 1.0)
    return (z @ (logits / tau).clamp(min=-1e3)).softmax(dim=0)


@LOGITS
@of_every_kind(KINDS)
def test_probabilities_and_what_follows_from_them(make, logits: Tensor):
    estimator = make()
    q, z = estimator.distribution(logits.expand(1, -1)), vectors(estimator.ones)
    p = by_hand(estimator, logits, z)
    torch.testing.assert_close(q.log_prob(z.unsqueeze(1)).exp().squeeze(-1), p)
    torch.testing.assert_close(q.pi.squeeze(0), p @ z)
    torch.testing.assert_close(q.entropy().squeeze(0), torch.special.entr(p).sum())
    assert torch.equal(q.mode().squeeze(0), z[p.argmax()])
    assert torch.equal(torch.zeros(5).scatter(0, q.codes(q.mode()).flatten(), 1.0).double(), z[p.argmax()])
    other = q.alike(PLAIN.flip(0).expand(1, -1))
    against = (other.log_prob(z.unsqueeze(1)).squeeze(-1).exp()).log()
    torch.testing.assert_close(q.kl(other).squeeze(0), (torch.xlogy(p, p) - p * against).sum())
    torch.testing.assert_close(q.kl(q.alike(q.logits)), torch.zeros(1, dtype=torch.float64))


@LOGITS
@of_every_kind(KINDS)
def test_gradients_are_finite_differences(make, logits: Tensor):
    estimator, kept = make(), torch.isfinite(logits)
    other = PLAIN.flip(0).expand(1, -1)
    z = vectors(estimator.ones)[:3].unsqueeze(1)
    z = z[~((z > 0) & ~kept).any(dim=-1).squeeze(-1)]

    def quantities(values: Tensor) -> Tensor:
        q = estimator.distribution(logits.masked_scatter(kept, values).expand(1, -1))
        weight = torch.linspace(1, 2, 5, dtype=torch.float64)
        return torch.stack([q.kl(q.alike(other)).sum(), q.entropy().sum(), (weight * q.pi).sum()])

    def of_prior(values: Tensor) -> Tensor:
        q = estimator.distribution(logits.expand(1, -1))
        p = q.alike(values.expand(1, -1))
        return torch.stack([q.kl(p).sum(), p.log_prob(z).sum()])

    assert torch.autograd.gradcheck(quantities, logits[kept].clone().requires_grad_())
    assert torch.autograd.gradcheck(of_prior, other[0].clone().requires_grad_())
    leaf = logits.clone().requires_grad_()
    q = estimator.distribution(leaf.expand(1, -1))
    (q.kl(q.alike(other)) + q.entropy()).sum().backward()
    assert not leaf.grad[~kept].any()


@of_every_kind(KINDS)
def test_log_prob_is_linear_in_z(make):
    estimator = make()
    q = estimator.distribution(MASKED.expand(1, -1))
    z = q.mode().requires_grad_()
    (slope,) = torch.autograd.grad(q.log_prob(z).sum(), z)
    possible = q.pi > 0
    torch.testing.assert_close(slope[possible] - slope[0, 0], q.logits[possible] - q.logits[0, 0])
    assert not slope[~possible].any()
    assert q.log_prob(1 - possible.double()).item() == -torch.inf


@LOGITS
@of_every_kind(KINDS)
def test_validation_and_draws_follow_it(make, logits: Tensor):
    estimator = make()
    z, rows = vectors(estimator.ones), logits.expand(100_000, 1, -1)
    p, seen = by_hand(estimator, logits, z), []
    estimator.value(rows, lambda one: seen.append(one) or one.sum(dim=(-2, -1)))
    drawn = estimator.distribution(logits.expand(1, -1)).draw(100_000)
    likely = p > 0
    for found in (seen[0].reshape(-1, 5), drawn.reshape(-1, 5)):
        states = (found @ z.T == estimator.ones).double()
        assert not states[:, ~likely].any()
        assert frequency_score(states[:, likely], p[likely]) < 1


def expected_loss(example: Example, q: type | None = None) -> float:
    """Score of the mean training loss against the sum of f over all states, by `distribution` or by another q."""
    estimator = example.make().double()
    problem = problem_for(estimator, "mlp")
    latents, categories = problem.logits.shape
    states = torch.stack(
        [torch.stack(one) for one in itertools.product(vectors(estimator.ones, categories), repeat=latents)]
    )
    own = q(problem.logits) if q else estimator.distribution(problem.logits)
    expected = own.log_prob(states).sum(dim=-1).exp() @ problem.base(states)
    moments = Moments()
    logits = problem.logits.expand(example.replicates // 10, -1, -1).clone().requires_grad_()
    moments.add(estimator(logits, problem.loss()))
    return worst_score(moments.mean() - expected, moments.variance_of_mean().sqrt(), torch.ones(()))


FOLLOWING = [e for e in EXAMPLES if not isinstance(e.make(), Redge)]
"""Redge's draws follow softmax in the limit of many steps only."""


@pytest.mark.parametrize("example", FOLLOWING, ids=str)
def test_the_training_loss_is_the_expectation_under_it(example: Example):
    relaxed = isinstance(example.make(), GumbelSoftmax | Vimco | SparseMixer)  # soft points, a bound, weighed draws
    assert (expected_loss(example) < 1) != relaxed


@pytest.mark.parametrize("name", ["SparsemaxMarginal", "EntmaxMarginal", "DecoupledStraightThroughGumbelSoftmax-.5"])
def test_softmax_in_its_place_is_rejected(name: str):
    (example,) = [one for one in EXAMPLES if one.name == name]
    assert expected_loss(example, Categorical) > 1
