"""The whole interface, `estimator(logits, f)`, beside the bare sampler: one training step of a VAE of MNIST's size."""

from collections.abc import Callable

import torch
from torch import Tensor

from ils_lightning.bench.section import Advance, Row, Section
from ils_lightning.bench.timing import Work, interleaved
from ils_lightning.estimators import ILS, ReinMax, Sampler, StraightThrough, StraightThroughGumbelSoftmax
from ils_lightning.modules import DiscreteVAE
from ils_lightning.networks import MLP

CODES = ((4, 8), (24, 4), (8, 64), (30, 10))


def run(repeats: int, device: torch.device, advance: Advance) -> list[Section]:
    """Times forward and backward of the model both ways, for every code and estimator."""
    rows: list[Row] = []
    for latents, categories in CODES:
        for estimator in (ILS(), ReinMax(), StraightThrough(), StraightThroughGumbelSoftmax()):
            found = interleaved(work(estimator, latents, categories, device), repeats, device, least=0.02)
            full, bare = found["estimator(logits, f)"], found["sampler"]
            row: Row = {"estimator": type(estimator).__name__, "latents x categories": f"{latents} x {categories}"}
            row |= {"milliseconds": full.seconds() * 1e3, "to the bare sampler": full.ratio(bare)}
            rows.append(row | {"cpu, to the bare sampler": full.ratio(bare, "cpu")})
        advance(f"{latents} x {categories}")
    title = "one step of a VAE 784-512-256-code-256-512-784, batch 100: estimator(logits, f) / bare sampler"
    pivot = ("estimator", "latents x categories", "cpu, to the bare sampler")
    return [Section("interface", title + ", processor time", rows, pivot)]


def work(estimator: Sampler, latents: int, categories: int, device: torch.device) -> dict[str, Work]:
    """Returns both ways through one model."""
    options = {"encoder": MLP([512, 256]), "decoder": MLP([256, 512]), "image_shape": [1, 28, 28]}
    model = DiscreteVAE(estimator, latents=latents, categories=categories, **options).to(device)
    x = torch.rand(100, 1, 28, 28, device=device)
    f = model.reconstruction_loss(x)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "sampler": lambda logits: f(estimator.sample(logits)),
        "estimator(logits, f)": lambda logits: estimator(logits, f),
    }
    return {name: _step(model, x, way) for name, way in ways.items()}


def _step(model: DiscreteVAE, x: Tensor, way: Callable[[Tensor], Tensor]) -> Work:
    def call() -> None:
        logits = model.encoder(x)
        (way(logits).mean() + model.prior.kl(logits).sum(dim=-1).mean()).backward()
        model.zero_grad()

    return call
