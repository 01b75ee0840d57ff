"""Which estimators torch.compile takes whole, which in pieces, and which not at all; no code is generated for it."""

import inspect
import logging
from typing import Any

import torch
from torch import Tensor

import ils_lightning.estimators as package
from ils_lightning.bench.section import Advance, Row, Section
from ils_lightning.estimators import Average, Estimator, ReinMax


def run(repeats: int, device: torch.device, advance: Advance) -> list[Section]:
    """Traces a training step of every estimator, forward and backward."""
    del repeats
    rows: list[Row] = []
    logging.getLogger("torch._dynamo").setLevel(logging.CRITICAL)
    for name in sorted(package.__all__):
        estimator = _make(name)
        if estimator is not None:
            rows.append({"estimator": name, "compiles": traced(estimator, device)})
            advance(name)
    return [Section("compiled", "torch.compile of estimator(logits, f) and its backward", rows)]


def _make(name: str) -> Estimator | None:
    kind: Any = getattr(package, name)
    if name == "Average":
        return Average(ReinMax(), samples=2)
    if not (inspect.isclass(kind) and issubclass(kind, Estimator)) or "_abstract" in vars(kind):
        return None
    return kind()


def traced(estimator: Estimator, device: torch.device) -> str:
    """Returns "whole" (one graph), "in pieces" or "no"."""
    estimator = estimator.to(device)
    categories = 2 if estimator.binary else 5
    weight = torch.randn(2, categories, device=device)
    logits = torch.randn(6, 2, categories, device=device, requires_grad=True)
    estimator.build(2, categories)

    def step(logits: Tensor) -> Tensor:
        return estimator(logits, lambda z: ((z * weight).sum(dim=(-2, -1)) - 0.3).square()).sum()

    for answer, whole in (("whole", True), ("in pieces", False)):
        torch.compiler.reset()
        try:
            torch.compile(step, backend="aot_eager", fullgraph=whole)(logits).backward()
        except Exception:  # whatever the compiler raises, the answer is that it does not take it
            continue
        return answer
    return "no"
