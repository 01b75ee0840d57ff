"""What a model pays that changes one line: each face of the suite beside what it replaces, both written as users do.

Every call is forward and backward. A ratio is to the first way of its group, the one that is replaced.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor, distributions, nn
from torch.nn import functional

from ils_lightning.bench.section import Advance, Row, Section, cell
from ils_lightning.bench.timing import STEADY, Work, interleaved
from ils_lightning.distributions import OneHotCategorical
from ils_lightning.estimators import Grpo, LeaveOneOut, Reinforce
from ils_lightning.functional import gumbel_softmax, sample
from ils_lightning.layers import Quantizer, Router

LATENTS = (800, 32, 32)  # rows, latents, categories: a world model's, 16 sequences of 50 steps
DRAWS = ((8192, 8), (4096, 32), (1024, 256), (256, 4096))
VECTORS = (4096, 64, 1024)  # vectors, width, codes
TOKENS = (8192, 8, 64)  # tokens, experts, width
PROMPTS = (8, 16, 64, 1000)  # samples of a prompt, prompts, tokens, vocabulary


def run(repeats: int, device: torch.device, advance: Advance) -> list[Section]:
    """Times every face and its rival in turns."""
    rows: dict[str, list[Row]] = {}
    for face, size, ways in groups(device):
        found = interleaved(ways, repeats, device, STEADY)
        replaced = next(iter(found.values()))
        for way, timing in found.items():
            row: Row = {"way": way, "size": size, "milliseconds": timing.seconds() * 1e3}
            row |= {"ratio": timing.ratio(replaced), "cpu ratio": timing.ratio(replaced, "cpu")}
            rows.setdefault(face, []).append(row)
        advance(f"{face}, {size}")
    return [_section(face, found) for face, found in rows.items()]


def _section(face: str, rows: list[Row]) -> Section:
    replaced = [row for row in rows if row["way"] == rows[0]["way"]]
    took = ", ".join(f"{cell(row['milliseconds'])} ms at {row['size']}" for row in replaced)
    title = f"{face}: forward and backward / {rows[0]['way']}"
    return Section(f"faces, {face}", title, rows, ("way", "size", "ratio"), f"{rows[0]['way']} took {took}")


def groups(device: torch.device) -> Iterator[tuple[str, str, dict[str, Work]]]:
    """Yields a face, a size, and the ways to time, the replaced one first."""
    torch.manual_seed(0)
    yield "distribution", _size(LATENTS), _distribution(device)
    for shape in DRAWS:
        yield "gumbel_softmax", _size(shape), _gumbel(torch.randn(shape, device=device), hard=False)
        yield "gumbel_softmax, hard", _size(shape), _gumbel(torch.randn(shape, device=device), hard=True)
    yield "quantizer", _size(VECTORS), _quantizer(device)
    yield "router", _size(TOKENS), _router(device)
    yield "later costs", _size(PROMPTS), _credit(device)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


def _pass(way: Callable[[Tensor], Tensor], x: Tensor, parameters: Callable[[], list[Tensor]] = list) -> Work:
    """A call that maps x to a scalar and differentiates it, in x and in parameters."""
    leaf = x.detach().requires_grad_()
    return lambda: torch.autograd.grad(way(leaf), [leaf, *parameters()], allow_unused=True)


def _distribution(device: torch.device) -> dict[str, Work]:
    """A draw of a posterior and its KL divergence from a prior, as in a Dreamer's cell."""
    logits, other, w = (torch.randn(LATENTS, device=device) for _ in range(3))

    def step(made: Callable[..., distributions.Distribution]) -> Callable[[Tensor], Tensor]:
        def way(x: Tensor) -> Tensor:
            posterior, prior = (distributions.Independent(made(logits=one), 1) for one in (x, other))
            return (posterior.rsample() * w).sum() + distributions.kl_divergence(posterior, prior).mean()

        return way

    def with_estimator(name: str) -> Callable[..., distributions.Distribution]:
        return lambda logits: OneHotCategorical(logits=logits, estimator=name)

    found = {"torch's OneHotCategoricalStraightThrough": _pass(step(_torch_s), logits)}
    names = ("StraightThrough", "ReinMax", "ILS")
    return found | {f"OneHotCategorical, {name}": _pass(step(with_estimator(name)), logits) for name in names}


def _torch_s(logits: Tensor) -> distributions.Distribution:
    return distributions.OneHotCategoricalStraightThrough(logits=logits)


def _gumbel(logits: Tensor, hard: bool) -> dict[str, Work]:
    g = torch.randn_like(logits)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "F.gumbel_softmax": lambda x: functional.gumbel_softmax(x, tau=0.7, hard=hard),
        "functional.gumbel_softmax": lambda x: gumbel_softmax(x, tau=0.7, hard=hard),
    }
    if hard:
        ways |= {f"functional.sample, {name}": _sampled(name) for name in ("ReinMax", "ILS")}
    return {name: _pass(lambda x, way=way: (way(x) * g).sum(), logits) for name, way in ways.items()}


def _sampled(name: str) -> Callable[[Tensor], Tensor]:
    return lambda x: sample(x, name)


class NearestCode(nn.Module):
    """Vector quantisation as published: the nearest code forward, the identity backward (van den Oord et al., 2017)."""

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(size, dim) / dim**0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns vectors, codes and the loss of codes and commitment."""
        index = torch.cdist(x.flatten(0, -2), self.codes).argmin(dim=-1).unflatten(0, x.shape[:-1])
        quantized = self.codes[index]
        loss = (quantized - x.detach()).square().mean() + 0.25 * (quantized.detach() - x).square().mean()
        return x + (quantized - x).detach(), index, loss


def _quantizer(device: torch.device) -> dict[str, Work]:
    vectors, width, codes = VECTORS
    x = torch.randn(16, vectors // 16, width, device=device)
    layers: dict[str, nn.Module] = {"nearest code, straight through": NearestCode(width, codes)}
    if find_spec("vector_quantize_pytorch"):
        released = import_module("vector_quantize_pytorch").VectorQuantize
        layers["vector-quantize-pytorch, averages"] = released(dim=width, codebook_size=codes)
    layers |= {f"Quantizer, {name}": Quantizer(width, codes, name) for name in ("StraightThrough", "ReinMax", "ILS")}
    return {name: _of_layer(layer.to(device), x) for name, layer in layers.items()}


def _of_layer(layer: nn.Module, x: Tensor) -> Work:
    def way(x: Tensor) -> Tensor:
        quantized, _, loss = layer(x)
        return quantized.square().mean() + loss

    return _pass(way, x, lambda: [p for p in layer.parameters() if p.requires_grad])


def _router(device: torch.device) -> dict[str, Work]:
    """The gate alone, with all experts' outputs at hand: what experts cost is the same for all."""
    tokens, experts, width = TOKENS
    logits = torch.randn(tokens, experts, device=device)
    outputs = torch.randn(experts, width, device=device)

    def switch(x: Tensor) -> Tensor:
        p = x.softmax(dim=-1)
        weight, index = p.max(dim=-1)
        load = functional.one_hot(index, experts).to(p.dtype).mean(dim=0)
        return (weight.unsqueeze(-1) * outputs[index]).square().mean() + experts * (load * p.mean(dim=0)).sum()

    def routed(router: Router) -> Callable[[Tensor], Tensor]:
        def way(x: Tensor) -> Tensor:
            routing = router(x)
            return (routing.weights @ outputs).square().mean() + routing.balance

        return way

    routers = {f"Router, {name}": Router(experts, 1, name) for name in ("SparseMixer", "ReinMax", "ILSCV")}
    return {"largest gate, balance": _pass(switch, logits)} | {
        name: _pass(routed(router), logits) for name, router in routers.items()
    }


def _credit(device: torch.device) -> dict[str, Work]:
    """Tokens of several answers to each prompt, one cost an answer."""
    logits = torch.randn(PROMPTS, device=device)
    costs = torch.rand(PROMPTS[:2], device=device).unsqueeze(-1).expand(PROMPTS[:3])

    def by_hand(x: Tensor) -> Tensor:
        tokens = distributions.Categorical(logits=x)
        return (tokens.log_prob(tokens.sample()) * (costs - costs.mean(dim=0))).mean()

    def credited(estimator: Reinforce | LeaveOneOut | Grpo) -> Callable[[Tensor], Tensor]:
        def way(x: Tensor) -> Tensor:
            _, credit = estimator.act(x.unsqueeze(-2))
            return credit(costs).mean()

        return way

    made = {type(one).__name__: one for one in (Reinforce(), LeaveOneOut(), Grpo())}
    return {"log_prob by torch, less the mean": _pass(by_hand, logits)} | {
        f"act and credit, {name}": _pass(credited(one), logits) for name, one in made.items()
    }
