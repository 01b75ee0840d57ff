"""Score-function and coupled estimators: identities with one another, sums over every draw, masks and limits."""

from collections.abc import Callable
from itertools import combinations, permutations, product
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from ils_lightning.describe import create
from ils_lightning.estimators import (
    Arsm,
    DisArmTree,
    Estimator,
    Exact,
    LeaveOneOut,
    MuProp,
    NetworkBaseline,
    Rebar,
    Reinforce,
    Relax,
    SumAndSample,
    UnorderedSet,
    VarGrad,
    Vimco,
    joint,
)
from ils_lightning.estimators.categorical import enumerate_states, exponential, log_prob, one_hot
from ils_lightning.estimators.unordered_set import ratios

CONFIGS = sorted((Path(__file__).parent.parent / "configs" / "estimators").glob("*.yaml"))
ESTIMATORS: dict[str, Callable] = {
    "Reinforce": lambda: Reinforce(baseline=NetworkBaseline()),
    "MuProp": MuProp,
    "Rebar": Rebar,
    "Relax": lambda: Relax(relaxed_loss=True),
    "UnorderedSet": UnorderedSet,
    "SumAndSample": lambda: SumAndSample(largest=3),
    "Arsm": Arsm,
    "DisArmTree": DisArmTree,
    "Vimco": Vimco,
    "VarGrad": VarGrad,
}


def wavy(z: Tensor) -> Tensor:
    """A smooth loss of no finite degree `[...]`."""
    weights = torch.linspace(-1, 2, z[0].numel() if z.dim() == 2 else z.shape[-2] * z.shape[-1]).to(z)
    x = (z.flatten(-2) * weights).sum(dim=-1)
    return torch.sin(3 * x) + x.square()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def estimates(estimator: torch.nn.Module, logits: Tensor, f: Callable = wavy, seed: int = 3) -> Tensor:
    torch.manual_seed(seed)
    return estimator.estimate(logits, f)[1].detach()


def test_leave_one_out_is_the_gradient_of_half_the_variance_of_the_log_weights():
    logits, var_grad = normal(6, 2, 3), VarGrad(samples=4)
    torch.testing.assert_close(estimates(var_grad, logits), estimates(LeaveOneOut(samples=4), logits))
    losses: list[Tensor] = []
    estimates(var_grad, logits, lambda z: losses.append(wavy(z)) or losses[-1])
    torch.testing.assert_close(var_grad.diagnostics()["log_variance"], losses[0].var(dim=0).mean() / 2)


def test_mu_prop_without_expansion_is_reinforce():
    logits = normal(6, 2, 3)
    torch.testing.assert_close(estimates(MuProp(samples=2, eta=0), logits), estimates(Reinforce(samples=2), logits))


def test_mu_prop_has_no_variance_on_a_linear_loss():
    logits, a = normal(2, 3), normal(2, 3, seed=1)

    def linear(z: Tensor) -> Tensor:
        return (a * z).sum(dim=(-2, -1)) + 7

    got = estimates(MuProp(), logits.expand(50, 2, 3), linear)
    torch.testing.assert_close(got, estimates(Exact(), logits, linear).expand(50, 2, 3))
    assert estimates(MuProp(eta=0.5), logits.expand(50, 2, 3), linear).var(dim=0).min() > 0


def test_dis_arm_tree_of_two_categories_is_dis_arm():
    logits = normal(500, 3, 2)
    t = logits[..., 0] - logits[..., 1]
    torch.manual_seed(3)
    u, p = torch.rand(500, 3, dtype=torch.float64), torch.sigmoid(t)
    b, b_other = (1 - u < p).double(), (u < p).double()
    f = [wavy(torch.stack((x, 1 - x), dim=-1)) for x in (b, b_other)]
    sign = torch.where(b_other == 1, -1.0, 1.0) * (b != b_other)
    dis_arm = (f[0] - f[1]).unsqueeze(-1) / 2 * sign * torch.sigmoid(t.abs())
    torch.testing.assert_close(estimates(DisArmTree(), logits), torch.stack((dis_arm, -dis_arm), dim=-1))


def test_arsm_swaps_every_pair_of_entries():
    logits = normal(2, 3)
    torch.manual_seed(3)
    noise = exponential(logits)
    v = noise / noise.sum(dim=-1, keepdim=True)
    swapped = torch.zeros(3, 3, dtype=torch.float64)
    for c, j in product(range(3), repeat=2):
        order = list(range(3))
        order[c], order[j] = j, c
        swapped[c, j] = wavy(one_hot((v[:, order] * torch.exp(-logits)).argmin(dim=-1), logits)[None])[0]
    expected = torch.einsum("cj,lj->lc", swapped - swapped.mean(dim=0), 1 / 3 - v)
    torch.testing.assert_close(estimates(Arsm(), logits), expected)


def set_probability(p: Tensor, members: tuple[int, ...], mass: float) -> Tensor:
    """P_A(members) as a sum over the orders of drawing them, `mass` = p(A)."""
    total = torch.zeros((), dtype=p.dtype)
    for order in permutations(members):
        left, term = mass, torch.ones((), dtype=p.dtype)
        for i in order:
            term, left = term * p[i] / left, left - p[i]
        total = total + term
    return total


def test_ratios_of_unordered_sets_are_those_of_sums_over_orders():
    p = normal(6).softmax(dim=-1)
    members = (0, 2, 3, 5)
    chosen = p[list(members)]
    log_r, log_r_pairs = ratios(chosen.log(), (1 - chosen.sum()).log())
    for i, s in enumerate(members):
        rest = tuple(m for m in members if m != s)
        without = set_probability(p, rest, 1 - p[s])
        torch.testing.assert_close(log_r[i].exp(), without / set_probability(p, members, 1))
        for j, other in enumerate(members):
            pair = tuple(m for m in rest if m != other)
            expected = set_probability(p, pair, 1 - p[s] - p[other]) / without if i != j else torch.ones_like(without)
            torch.testing.assert_close(log_r_pairs[i, j].exp(), expected)


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize(("latents", "categories", "samples"), [(1, 5, 2), (1, 5, 3), (2, 3, 3), (3, 2, 4)])
def test_unordered_set_over_every_set_is_the_gradient(latents: int, categories: int, samples: int, baseline: bool):
    logits = normal(latents, categories)
    sets = list(combinations(range(categories**latents), samples))
    p = joint.log_prob(logits).exp()
    probability = torch.stack([set_probability(p, members, 1) for members in sets])

    class EverySet(UnorderedSet):
        @staticmethod
        def _draw(log_p: Tensor, samples: int) -> tuple[Tensor, Tensor, Tensor]:
            index = torch.tensor(sets)
            rest = log_p.scatter(-1, index, float("-inf")).logsumexp(dim=-1)
            return log_p.gather(-1, index).T, rest, index.T

    loss, estimate = EverySet(samples, baseline).estimate(logits.expand(len(sets), -1, -1), wavy)
    expected, gradient = Exact().estimate(logits, wavy)
    torch.testing.assert_close(probability.sum(), torch.ones_like(expected))
    torch.testing.assert_close((probability * loss).sum(), expected)
    torch.testing.assert_close(torch.einsum("n,nlk->lk", probability, estimate), gradient)


@pytest.mark.parametrize("estimator", [SumAndSample(largest=8), SumAndSample(largest=50), UnorderedSet(samples=9)])
def test_all_configurations_give_the_gradient_itself(estimator: torch.nn.Module):
    logits = normal(5, 2, 3)
    torch.testing.assert_close(estimates(estimator, logits), estimates(Exact(), logits))


@pytest.mark.parametrize("estimator", [SumAndSample(largest=4), UnorderedSet(samples=4)])
def test_fewer_possible_configurations_than_asked_for(estimator: torch.nn.Module):
    logits = normal(5, 2, 3)
    logits[:, 0, 1:], logits[:, 1, 2] = float("-inf"), float("-inf")

    def guarded(z: Tensor) -> Tensor:
        assert not ((z > 0) & (logits == float("-inf"))).any()
        return wavy(z)

    torch.testing.assert_close(estimates(estimator, logits, guarded), estimates(Exact(), logits))


def test_joint_space_is_numbered_as_enumerated():
    logits = normal(3, 4)
    states = enumerate_states(3, 4, like=logits)
    torch.testing.assert_close(joint.configurations(torch.arange(64), logits), states)
    torch.testing.assert_close(joint.log_prob(logits), log_prob(logits, states).sum(dim=-1))


@pytest.mark.parametrize("make", [UnorderedSet, SumAndSample])
def test_a_joint_space_beyond_the_limit_is_refused(make: Callable):
    with pytest.raises(ValueError, match=r"3 \*\* 12 = 531441 exceeds limit = 65536.*LeaveOneOut"):
        make()(torch.zeros(12, 3), wavy)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UnorderedSet(samples=1), "samples must be 2 to 12"),
        (lambda: UnorderedSet(samples=13, baseline=False), "samples must be 1 to 12"),
        (lambda: UnorderedSet(limit=0), "limit must be at least 1"),
        (lambda: SumAndSample(largest=-1), "largest must be at least 0"),
        (lambda: MuProp(samples=0), "samples must be at least 1"),
        (lambda: Rebar(samples=0), "samples must be at least 1"),
        (lambda: Relax(samples=0), "samples must be at least 1"),
        (lambda: Rebar(temperature=0), "temperature must be greater than 0"),
        (lambda: Relax(temperature=-1), "temperature must be greater than 0"),
        (lambda: Rebar(eta=-1), "eta must be at least 0"),
        (lambda: Vimco(samples=1), "samples must be at least 2"),
        (lambda: VarGrad(samples=1), "samples must be at least 2"),
        (lambda: NetworkBaseline(hidden=0), "hidden must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable, message: str):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [MuProp, Rebar, lambda: Relax(relaxed_loss=True)])
def test_a_loss_without_gradient_is_refused_where_one_is_needed(make: Callable):
    with pytest.raises(ValueError, match="differentiable in z"):
        make()(torch.zeros(2, 3, requires_grad=True), lambda z: wavy(z).detach())


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_and_masks_are_finite(name: str, dtype: torch.dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, float("-inf")], [0.0, float("-inf"), float("-inf")]])
    leaf = logits.to(dtype).expand(64, 3, 3).clone().requires_grad_()
    estimator = ESTIMATORS[name]()
    masked = leaf.detach() == float("-inf")

    def guarded(z: Tensor) -> Tensor:
        assert not ((z > 0) & masked).any()
        return wavy(z.float())

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        estimator(leaf, guarded).mean().backward()
    own = [p.grad for p in estimator.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in (leaf.grad, *own))
    assert (leaf.grad[masked] == 0).all()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_recommended_settings_make_the_estimator_they_are_named_after(path: Path):
    estimator = create(yaml.safe_load(path.read_text()), Estimator)
    assert type(estimator).__module__ == f"ils_lightning.estimators.{path.stem}"


def bound(logits: Tensor, f: Callable, samples: int) -> Tensor:
    """E[-log mean exp(-f)] over independent draws, by enumeration."""
    states = enumerate_states(*logits.shape, like=logits)
    p, loss = log_prob(logits, states).sum(dim=-1).exp(), f(states)
    index = torch.tensor(list(product(range(len(states)), repeat=samples)))
    return -(p[index].prod(dim=-1) * (-loss[index]).logsumexp(dim=-1)).sum() + torch.tensor(samples).log()


@pytest.mark.parametrize("attached", [True, False])
def test_vimco_descends_its_bound_when_log_q_is_attached_inside_the_loss(attached: bool):
    logits = normal(1, 3).requires_grad_()

    def minus_log_weight(theta: Tensor) -> Callable:
        return lambda z: log_prob(theta, z).sum(dim=-1) + wavy(z)

    (expected,) = torch.autograd.grad(bound(logits, minus_log_weight(logits), 3), logits)
    rows = logits.detach().expand(100_000, 1, 3).clone().requires_grad_()
    Vimco(samples=3)(rows, minus_log_weight(rows if attached else rows.detach())).sum().backward()
    score = (rows.grad.mean(dim=0) - expected) / (rows.grad.std(dim=0) / len(rows) ** 0.5)
    assert (score.abs().max() < 4.5) == attached
