"""Which estimators torch.compile takes whole, which in pieces, and which not at all; and what compiled networks save.

The first is found by tracing alone. Code is generated for the networks of one VAE only.
"""

import inspect
import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import ils_lightning.estimators as package
from ils_lightning.bench.section import Advance, Row, Section
from ils_lightning.bench.timing import interleaved, wait
from ils_lightning.callbacks.compiled_networks import compile_networks, differentiates_twice
from ils_lightning.estimators import Average, Estimator, Grouped, LatinHypercube, ReinMax
from ils_lightning.modules import DiscreteVAE
from ils_lightning.networks import MLP
from ils_lightning.type_hints import is_abstract

ROWS = 6
WRAPPERS: dict[str, Callable[[], Estimator]] = {
    "Average": lambda: Average(ReinMax(), samples=2),
    "LatinHypercube": lambda: LatinHypercube(ReinMax(), samples=2),
    "Grouped": lambda: Grouped(ReinMax(), groups=ROWS),
}


def run(repeats: int, device: torch.device, advance: Advance) -> list[Section]:
    """Traces a training step of every estimator, forward and backward; then times a VAE with compiled networks."""
    logging.getLogger("torch._dynamo").setLevel(logging.CRITICAL)
    rows: list[Row] = []
    for name in sorted(package.__all__):
        estimator = instance(name)
        if estimator is not None:
            advance(name)
            row: Row = {"estimator": name, "compiles": traced(estimator, device)}
            row["CompiledNetworks"] = "no" if differentiates_twice(estimator) else "yes"
            rows.append(row | {"in pieces, for": estimator.graph_breaks})
    torch.compiler.reset()
    title = "torch.compile of estimator(logits, f) and its backward; the callback CompiledNetworks"
    return [Section("compiled", title, rows), _networks(repeats, device, advance)]


def _networks(repeats: int, device: torch.device, advance: Advance) -> Section:
    """One training step of a VAE of MNIST's size, its networks compiled and not."""
    rows: list[Row] = []
    for latents, categories in ((4, 8), (24, 4)):
        advance(f"networks, {latents} x {categories}")
        plain, compiled = (_model(latents, categories).to(device) for _ in range(2))
        compile_networks(compiled, "inductor")
        x = torch.rand(100, 1, 28, 28, device=device)
        begun = time.perf_counter()
        _step(compiled, x)()
        wait(device)
        seconds = time.perf_counter() - begun
        found = interleaved({"plain": _step(plain, x), "compiled": _step(compiled, x)}, repeats, device, least=0.02)
        row: Row = {"latents x categories": f"{latents} x {categories}", "seconds to compile": seconds}
        row |= {f"{name}, milliseconds": timing.seconds() * 1e3 for name, timing in found.items()}
        rows.append(row | {"compiled / plain": found["compiled"].ratio(found["plain"])})
    title = "one step of a VAE 784-512-256-code-256-512-784, batch 100, ReinMax, Adam: CompiledNetworks"
    return Section("compiled networks", title, rows)


def _model(latents: int, categories: int) -> DiscreteVAE:
    options: dict[str, Any] = {"encoder": MLP([512, 256]), "decoder": MLP([256, 512]), "image_shape": [1, 28, 28]}
    return DiscreteVAE(ReinMax(), latents=latents, categories=categories, **options)


def _step(model: DiscreteVAE, x: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

    def call() -> None:
        logits = model.encoder(x)
        loss = model.estimator(logits, model.reconstruction_loss(x)).mean() + model.prior.kl(logits).sum(dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return call


def instance(name: str) -> Estimator | None:
    """An estimator by its name, at its defaults; None where the name is that of something else."""
    kind: Any = getattr(package, name)
    if name in WRAPPERS:
        return WRAPPERS[name]()
    if not (inspect.isclass(kind) and issubclass(kind, Estimator)) or is_abstract(kind):
        return None
    return kind()


def traced(estimator: Estimator, device: torch.device) -> str:
    """Returns "whole" (one graph), "in pieces" or "no"."""
    estimator = estimator.to(device)
    categories = 2 if estimator.binary else 5
    weight = torch.randn(2, categories, device=device)
    logits = torch.randn(ROWS, 2, categories, device=device, requires_grad=True)
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
