"""torch.compile of `estimator(logits, f)`: the numbers of a plain call at every batch size, from few graphs."""

import copy
import re
from collections.abc import Callable, Iterator

import pytest
import torch
from examples import EXAMPLES, Example
from pages import ROOT
from simulate import size
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

import ils_lightning.estimators as package
from ils_lightning.bench.compiled import instance
from ils_lightning.estimators import Average, Estimator, Grouped, ILSNewton, MovingAverage, Rebar, Reinforce, ReinMax
from ils_lightning.estimators.compiling import ASKS_DERIVATIVES, COUNTS_SUPPORTS, LEARNS_BY_GRADIENT, POOLS

# torch.compile itself looks at what it then warns of
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
ROWS = (8, 8, 32, 17, 100, 17, 40)
"""Sizes of the batches: the same again, another, and then all others."""
GROUPED = Example("Grouped", lambda: Grouped(ReinMax(), groups=3))
OUTSIDE = {LEARNS_BY_GRADIENT, ASKS_DERIVATIVES, COUNTS_SUPPORTS}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Nothing compiled before, and an error where a function is compiled so often that the compiler gives up."""
    torch.compiler.reset()
    counters.clear()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield
    torch.compiler.reset()


def network(features: int) -> nn.Module:
    """What f closes over."""
    return nn.Sequential(nn.Linear(features, 4), nn.Tanh(), nn.Linear(4, 1)).double()


class Step:
    """What a user compiles, `estimator(logits, f)`, and all that a step leaves behind."""

    def __init__(self, estimator: Estimator, f: nn.Module, wrap: Callable) -> None:
        self.estimator, self.f = estimator, f

        def loss(logits: Tensor) -> Tensor:
            return estimator(logits, lambda z: f(z.flatten(-2)).squeeze(-1).square())

        self.loss = wrap(loss)

    def __call__(self, logits: Tensor, upstream: Tensor, seed: int) -> list[Tensor | None]:
        """Returns losses, gradients of logits, of f's weights and of the estimator's own, and what it has learnt."""
        logits = logits.clone().requires_grad_()
        weights = [*self.f.parameters(), *self.estimator.parameters()]
        for weight in weights:
            weight.grad = None
        torch.manual_seed(seed)
        loss = self.loss(logits)
        (loss * upstream).sum().backward()
        state = [x.clone() for x in self.estimator.state_dict().values()]
        return [loss.detach(), logits.grad, *(w.grad for w in weights), *state]


def graphs(example: Example, backend: str, rows: tuple[int, ...] = ROWS) -> list[int]:
    """Compares steps of so many rows with plain ones; returns how many graphs were compiled after each."""
    plain = example.make()
    latents, categories = (2, 5) if example is GROUPED else size(plain)
    plain.build(latents, categories)
    plain.double()
    f, counter = network(latents * categories), CompileCounterWithBackend(backend)
    ways = [
        Step(copy.deepcopy(plain), copy.deepcopy(f), lambda loss: torch.compile(loss, backend=counter)),
        Step(plain, f, lambda loss: loss),
    ]
    found = []
    for seed, number in enumerate(rows):
        batch = (3, number) if example is GROUPED else (number,)
        logits = torch.randn(*batch, latents, categories, dtype=torch.float64)
        upstream = torch.rand(batch, dtype=torch.float64)
        compiled, expected = (way(logits, upstream, seed) for way in ways)
        torch.testing.assert_close(compiled, expected)
        assert compiled[1].abs().max() > 0
        found.append(counter.frame_count)
    return found


def small(example: Example) -> bool:
    return example.name in {"ReinMax", "LeaveOneOut", "Rebar"}


@pytest.mark.parametrize(
    "example",
    [pytest.param(e, id=e.name, marks=[] if small(e) else [pytest.mark.long]) for e in [*EXAMPLES, GROUPED]],
)
@pytest.mark.slow
def test_batches_of_changing_size(example: Example):
    found = graphs(example, "aot_eager")
    reason = example.make().graph_breaks
    assert bool(counters["graph_break"]) == bool(reason)
    assert found[1] == found[0], "the same size needs no second graph"
    assert found[2:] == [found[2]] * (len(ROWS) - 2), "all sizes after the second share their graphs"
    assert found[2] <= {"": 2, POOLS: 8}.get(reason, 1)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what torch's generator of code says of torch
@pytest.mark.parametrize("name", ["ReinMax", "LeaveOneOut", "ILSNewton"])
def test_generated_code(name: str):
    (example,) = (e for e in EXAMPLES if e.name == name)
    with torch._inductor.config.patch(fallback_random=True):  # else compiled code draws from a stream of its own
        found = graphs(example, "inductor", (8, 32, 17, 100, 40))
    assert found[2] <= found[1] + 1, "it multiplies matrices of few rows by other code"
    assert found[3:] == [found[2]] * 2


@pytest.mark.slow
def test_a_batch_of_one_row_has_a_graph_of_its_own():
    (example,) = (e for e in EXAMPLES if e.name == "ReinMax")
    assert graphs(example, "aot_eager", (8, 32, 1, 17, 1)) == [1, 2, 3, 3, 3]


def test_wrappers_are_taken_as_what_is_in_them():
    for inside in (ReinMax(), ILSNewton(), Rebar(), Reinforce(baseline=MovingAverage())):
        assert Average(inside).graph_breaks == inside.graph_breaks
    assert Grouped(ILSNewton(), 2).graph_breaks == POOLS


def test_the_page_lists_what_is_taken_in_pieces():
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    listed = {reason: names for reason, names in re.findall(r"^\| (.*) \| (`.*`) \|$", text, re.MULTILINE)}
    made = {name: instance(name) for name in package.__all__}
    known = {name: one.graph_breaks for name, one in made.items() if one is not None and one.graph_breaks}
    for reason in {POOLS, *OUTSIDE}:
        assert listed[reason] == ", ".join(f"`{name}`" for name in sorted(known) if known[name] == reason)
    whole = sum(one is not None and not one.graph_breaks for one in made.values())
    assert f"{whole} of {whole + len(known)} estimators in one graph" in text
