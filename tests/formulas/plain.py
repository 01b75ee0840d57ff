"""What slow forms are written with: textbook definitions, one vector at a time."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from ils_lightning.testing.formula import Recording


def softmax(theta: Tensor) -> Tensor:
    return theta.exp() / theta.exp().sum()


def J(q: Tensor) -> Tensor:  # noqa: N802 (the name used in the formulas)
    """Softmax's Jacobian at probabilities `[categories]`."""
    return torch.diag(q) - torch.outer(q, q)


def one_hot(k: int, categories: int) -> Tensor:
    return torch.eye(categories, dtype=torch.float64)[k]


def vertices(categories: int) -> list[Tensor]:
    return list(torch.eye(categories, dtype=torch.float64))


def states(latents: int, categories: int) -> list[Tensor]:
    """Every one-hot z `[latents, categories]`."""
    return [torch.stack(z) for z in itertools.product(vertices(categories), repeat=latents)]


def each(recording: Recording) -> list[tuple[int, int]]:
    """Row and latent of every vector of logits."""
    rows, latents, _ = recording.logits.shape
    return list(itertools.product(range(rows), range(latents)))


def by_vector(recording: Recording, one: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Applies (theta, z, g) -> estimate to each vector, for an estimator that calls f once, at one draw."""
    (z,) = recording.draws
    g, estimate = recording.slope(z), torch.zeros_like(recording.logits)
    for b, i in each(recording):
        estimate[b, i] = one(recording.logits[b, i], z[0, b, i], g[0, b, i])
    return estimate


def scores(recording: Recording, z: Tensor) -> Tensor:
    """Z - pi, of draws `[samples, rows, latents, categories]`."""
    d = torch.zeros_like(z)
    for (b, i), s in itertools.product(each(recording), range(len(z))):
        d[s, b, i] = z[s, b, i] - softmax(recording.logits[b, i])
    return d


def values(recording: Recording, z: Tensor) -> list[list[float]]:
    """F of draws, by sample and row."""
    return recording.f(z).tolist()


def exponential(u: Tensor) -> Tensor:
    return -torch.log1p(-u)


def gumbel(u: Tensor) -> Tensor:
    return -torch.log(exponential(u))


def perturbed(theta: Tensor, z: Tensor, E: Tensor) -> Tensor:
    """Theta + Gumbel noise `[categories]` given that its argmax is the draw z, from exponential noise E."""
    k, Z = int(z.argmax()), theta.exp().sum()
    entries = [
        -torch.log(E[j]) + torch.log(Z) if j == k else -torch.log(E[j] / theta[j].exp() + E[k] / Z)
        for j in range(len(theta))
    ]
    return torch.stack(entries)
