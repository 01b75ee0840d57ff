"""The curved family beside ReinMax, a hundred rows a step: draw and backward, and the whole of estimator(logits, f)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ils_lightning.bench.samplers import pass_through
from ils_lightning.bench.section import Advance, Row, Section
from ils_lightning.bench.timing import STEADY, Work, interleaved
from ils_lightning.estimators import ILSCV, ILSDiagonal, ILSJoint, ILSLowRank, ILSNewton, ILSTempered, ReinMax, Sampler

ROWS = 100
CODES = ((4, 8), (24, 4), (12, 16), (8, 64), (30, 10), (128, 4))
BEFORE = 80
"""Calls before the first that is timed: by then curvature is learnt from as few steps as later."""
SELDOM = (ILSNewton, ILSJoint, ILSTempered, ILSLowRank)
FAMILY: dict[str, Callable[[], Sampler]] = {
    "ReinMax": ReinMax,
    **{make.__name__: make for make in SELDOM},
    **{f"{make.__name__}(every=8)": partial(make, every=8) for make in SELDOM},
    "ILSDiagonal": ILSDiagonal,
    "ILSCV": ILSCV,
}
WAYS = {"draw and backward": "estimator.sample", "whole": "estimator(logits, f), f linear,"}


def run(repeats: int, device: torch.device, advance: Advance) -> list[Section]:
    """Times every member at every size, both ways, in turns with ReinMax."""
    rows: dict[str, list[Row]] = {way: [] for way in WAYS}
    for latents, categories in CODES:
        for way in WAYS:
            found = interleaved(work(way, latents, categories, device), repeats, device, STEADY)
            size, reference = f"{latents} x {categories}", found["ReinMax"]
            for name, timing in found.items():
                row: Row = {"estimator": name, "latents x categories": size}
                row |= {"microseconds": timing.seconds() * 1e6, "to ReinMax": timing.ratio(reference)}
                rows[way].append(row | {"cpu, to ReinMax": timing.ratio(reference, "cpu")})
        advance(f"{latents} x {categories}")
    pivot = ("estimator", "latents x categories", "cpu, to ReinMax")
    return [
        Section(f"family, {way}", f"{what} and backward, {ROWS} rows: processor time / ReinMax", rows[way], pivot)
        for way, what in WAYS.items()
    ]


def work(way: str, latents: int, categories: int, device: torch.device) -> dict[str, Work]:
    """Returns one call for each member, which learns as in training."""
    generator = torch.Generator().manual_seed(0)
    logits, g = (torch.randn(ROWS, latents, categories, generator=generator).to(device) for _ in range(2))
    logits.requires_grad_()
    calls: dict[str, Work] = {}
    for name, make in FAMILY.items():
        estimator = make()
        taken = pass_through(estimator.sample, logits, g) if way == "draw and backward" else _step(estimator, logits, g)
        for _ in range(BEFORE):
            taken()
        calls[name] = taken
    return calls


def _step(estimator: Sampler, logits: Tensor, slope: Tensor) -> Work:
    def call() -> object:
        loss = estimator(logits, lambda z: (z * slope).sum(dim=(-2, -1)))
        return torch.autograd.grad(loss.sum(), logits)

    return call
