"""Draw and backward from logits, against peers: time and memory.

Each method draws from logits `[batch, 1, categories]` and takes one upstream gradient of unit size, standard normal
numbers, back to them. The step of ILS then leaves the simplex in many rows, which are projected. Under "ILS, small
gradients" it does not: the gradient is as small as that of a mean over categories.
"""

import torch
from torch import Tensor

from ils_lightning.bench.memory import peak_bytes
from ils_lightning.bench.peers import COPY, FLOOR, REFERENCE, RELEASED, Draw, floors, peers
from ils_lightning.bench.section import Advance, Row, Section
from ils_lightning.bench.timing import STEADY, Timing, Work, cold, interleaved
from ils_lightning.estimators import ILS, ILSCV, ReinMax, StraightThrough, StraightThroughGumbelSoftmax

SIZES = ((256, 8), (8192, 8), (4096, 32), (1024, 256), (256, 4096), (64, 32_000), (16, 131_072))


def ours() -> dict[str, Draw]:
    """Returns this package's samplers, by name."""
    estimators = (ILS(), ReinMax(), StraightThrough(), ILSCV(), StraightThroughGumbelSoftmax())
    names = [type(one).__name__.replace("StraightThroughG", "STG") for one in estimators]
    return {name: one.sample for name, one in zip(names, estimators, strict=True)}


def pass_through(draw: Draw, logits: Tensor, g: Tensor) -> Work:
    """Returns a call that draws and takes `g` back to the logits."""

    def call() -> object:
        z = draw(logits)
        return torch.autograd.grad(z, logits, g), z  # the draw is held to the end, as a model holds it

    return call


def work(batch: int, categories: int, device: torch.device) -> dict[str, Work]:
    """Returns one call for each method."""
    generator = torch.Generator().manual_seed(0)
    logits, g = (torch.randn(batch, 1, categories, generator=generator).to(device) for _ in range(2))
    logits.requires_grad_()
    draws = {**ours(), **peers(), **floors()}
    calls = {name: pass_through(draw, logits, g) for name, draw in draws.items()}
    return {**calls, "ILS, small gradients": pass_through(ILS().sample, logits, g / categories)}


def run(repeats: int, device: torch.device, advance: Advance) -> list[Section]:
    """Times and weighs every method at every size."""
    rows: list[Row] = []
    for batch, categories in SIZES:
        calls = work(batch, categories, device)
        found, first = interleaved(calls, repeats, device, STEADY), cold(calls, repeats, device)
        size = batch * categories * 4
        for name, call in calls.items():
            row = _row(name, f"{batch} x {categories}", found) | {"cold ratio": first[name].ratio(first[REFERENCE])}
            row["cold cpu ratio"] = first[name].ratio(first[REFERENCE], "cpu")
            rows.append(row | {"tensors": peak_bytes(call, device) / size})
        advance(f"{batch} x {categories}")
    return sections(rows)


def _row(name: str, size: str, found: dict[str, Timing]) -> Row:
    timing, best = found[name], _best_peer(found)
    row: Row = {"method": name, "size": size, "microseconds": timing.seconds() * 1e6}
    row |= {"ratio": timing.ratio(found[REFERENCE]), "cpu ratio": timing.ratio(found[REFERENCE], "cpu")}
    row |= {"to softmax": timing.ratio(found[FLOOR]), "best peer": best, "to best peer": timing.ratio(found[best])}
    return row | ({"to released": timing.ratio(found[RELEASED])} if RELEASED in found else {})


def _best_peer(found: dict[str, Timing]) -> str:
    return min(peers(), key=lambda name: found[name].seconds())


def sections(rows: list[Row]) -> list[Section]:
    """Returns the tables in which the rows are printed; the first holds them all."""
    tables = [
        ("ratio", f"time / {REFERENCE}(hard=True), warm: calls repeated"),
        ("cold ratio", f"time / {REFERENCE}(hard=True), cold: one call after other work"),
        ("cpu ratio", f"processor time / {REFERENCE}(hard=True), warm"),
        ("cold cpu ratio", f"processor time / {REFERENCE}(hard=True), cold"),
        ("to released", "time / the released reinmax"),
        ("to softmax", "time / one softmax and its backward"),
        ("to best peer", "time / the fastest peer at that size"),
        ("tensors", "peak memory beyond logits and gradient, in tensors of batch x categories float32 numbers"),
    ]
    shown = [row for row in rows if row["method"] != COPY]
    return [
        Section(f"samplers, {key}", title, rows if key == "tensors" else shown, ("method", "size", key))
        for key, title in tables
        if any(key in row for row in rows)
    ]
