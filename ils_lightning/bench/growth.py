"""How the cost of a draw grows with categories, batch, samples and trials, above what no draw can go below."""

import torch
from torch import Tensor

from ils_lightning.bench.peers import COPY, FLOOR, REFERENCE, Draw, floors, peers, plain_gumbel
from ils_lightning.bench.samplers import pass_through
from ils_lightning.bench.section import Advance, Row, Section
from ils_lightning.bench.timing import STEADY, Work, interleaved
from ils_lightning.estimators import ILS, ReinMax, StraightThrough
from ils_lightning.estimators.categorical import draw, softmax
from ils_lightning.losses import ExpectedKL
from ils_lightning.modules import CategoricalFit

CATEGORIES = tuple(2**power for power in range(3, 18, 2))
BATCHES = tuple(4**power for power in range(1, 8))
SAMPLES = tuple(2**power for power in range(0, 7, 2))
TRIALS = tuple(4**power for power in range(1, 7))
NUMBERS = 2**18  # of logits, while categories grow
SAMPLED = (1024, 256)  # rows and categories, while samples grow


TITLES = {
    "categories": f"microseconds of draw and backward, {NUMBERS:,} logits in all",
    "batch": "microseconds of draw and backward, 32 categories",
    "samples": f"microseconds of several draws a row from logits {SAMPLED[0]} x {SAMPLED[1]}",
    "trials": "microseconds of one step of the categorical toy, 5 categories",
}


def run(repeats: int, device: torch.device, advance: Advance) -> list[Section]:
    """Times what grows in four ways."""
    grown = {
        "categories": (CATEGORIES, lambda size: _passes(max(NUMBERS // size, 1), size, device)),
        "batch": (BATCHES, lambda size: _passes(size, 32, device)),
        "samples": (SAMPLES, lambda size: _draws(size, device)),
        "trials": (TRIALS, lambda size: _trials(size, device)),
    }
    rows: list[Row] = []
    for name, (sizes, make) in grown.items():
        for size in sizes:
            for method, timing in interleaved(make(size), min(repeats, 20), device, STEADY).items():
                rows.append({"grows": name, "size": size, "method": method, "microseconds": timing.seconds() * 1e6})
            advance(f"{name} {size}")
    return sections(rows)


def sections(rows: list[Row]) -> list[Section]:
    """Returns one table for each thing that grows, and what one of many draws costs."""
    by_name = {name: [row for row in rows if row["grows"] == name] for name in TITLES}
    tables = [
        Section(f"growth, {name}", title, by_name[name], ("method", "size", "microseconds"))
        for name, title in TITLES.items()
    ]
    return [*tables, _one_of_many(by_name["samples"])]


def _one_of_many(rows: list[Row]) -> Section:
    single = min(row["size"] for row in rows)
    (one,) = (row["microseconds"] for row in rows if row["method"] == REFERENCE and row["size"] == single)
    shares = [row | {"share": row["microseconds"] / row["size"] / one} for row in rows if row["method"] != FLOOR]
    title = f"time of one of several draws a row / one {REFERENCE}(hard=True), forward only"
    return Section("growth, one of many", title, shares, ("method", "size", "share"))


def _passes(batch: int, categories: int, device: torch.device) -> dict[str, Work]:
    logits = torch.randn(batch, 1, categories, device=device, requires_grad=True)
    g = torch.randn_like(logits) / categories  # by which no step of ILS leaves the simplex
    own: dict[str, Draw] = {type(one).__name__: one.sample for one in (ILS(), ReinMax(), StraightThrough())}
    draws = own | {REFERENCE: peers()[REFERENCE], "-log(-log(u))": plain_gumbel} | floors()
    return {name: pass_through(method, logits, g) for name, method in draws.items()}


def _draws(samples: int, device: torch.device) -> dict[str, Work]:
    """Draws without backward; a copy is one of all draws."""
    logits = torch.randn(SAMPLED, device=device)
    many = logits.expand(samples, -1, -1)
    answer = torch.zeros(many.shape, device=device)
    return {
        "draw, shared sums": lambda: draw(softmax(logits), samples),
        REFERENCE: lambda: peers()[REFERENCE](many),
        "-log(-log(u))": lambda: plain_gumbel(many),
        FLOOR: lambda: torch.softmax(logits, dim=-1),
        COPY: answer.clone,
    }


def _trials(trials: int, device: torch.device) -> dict[str, Work]:
    p = torch.rand(trials, 5, device=device).softmax(dim=-1)
    models = [CategoricalFit(one, ExpectedKL(), trials=trials).to(device) for one in (ILS(pullback="none"), ReinMax())]
    found: dict[str, Work] = {type(one.estimator).__name__: (lambda one=one: one.gradient(p)) for one in models}
    logits: Tensor = torch.rand(trials, 1, 5, device=device, requires_grad=True)
    g = torch.rand_like(logits)
    return found | {name: pass_through(method, logits, g) for name, method in floors().items()}
