"""Draws as functions: any sampler on any axis, `gumbel_softmax` with torch's signature, and uniform mixing.

    z = sample(logits, "ReinMax")                     # in place of F.gumbel_softmax(logits, tau, hard=True)
    z = sample(logits, self.estimator)                # an instance, where the estimator has options or learns

Logits `[*batch, latents, categories]` are as everywhere. Logits of two axes, `[rows, categories]`, are rows of one
latent: what an estimator pools it pools over the rows.
"""

import difflib
import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor

from ils_lightning import estimators
from ils_lightning.describe import in_words
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator, GumbelSoftmax, Sampler, StraightThroughGumbelSoftmax
from ils_lightning.estimators.categorical import log_softmax, readable, softmax
from ils_lightning.estimators.distribution import Categorical
from ils_lightning.estimators.replacing import drawn, draws_are_replaced

__all__ = ["gumbel_softmax", "sample", "unimix"]


def sample(
    logits: Tensor, estimator: Sampler | str = "StraightThrough", dim: int = -1, generator: Generator | None = None
) -> Tensor:
    """Draws one-hot vectors whose backward is an estimator's.

    The estimator sees dL/dz as it arrives. One that is linear in it is scaled as the loss is; a non-linear one (`ILS`)
    depends on whether the loss is a sum or a mean, which `estimator(logits, f)` does not.

    Args:
        logits: `[..., categories]`, the categories along `dim`; -inf masks a category.
        estimator: an instance, or the name of a class whose options and state start fresh with each call.
        dim: axis of the categories. Of the others the last is the latents, if there are two or more.
        generator: source of the noise, on the device of the logits; torch's global one unless given.

    Returns:
        Draws of the shape of the logits.

    Raises:
        ValueError: when the estimator cannot draw, or learns and is given by its name, or `dim` is no axis.

    Example:
        >>> import torch
        >>> logits = torch.zeros(5, 3, requires_grad=True)
        >>> z = sample(logits, "ReinMax")
        >>> z.sum(dim=-1)
        tensor([1., 1., 1., 1., 1.], grad_fn=<SumBackward1>)
    """
    sampler = sampler_of(estimator)
    if not -logits.dim() <= dim < logits.dim():
        raise Refusal(f"sample: dim must be an axis of the logits {list(logits.shape)}; given {dim}")
    along = logits.movedim(dim, -1)
    as_given = along
    if along.dim() < 3:
        along = along.unsqueeze(-2)
    sampler.check(along)
    with noise_from(generator):
        z = drawn(sampler, along)
    return z.reshape(as_given.shape).movedim(-1, dim)


def gumbel_softmax(
    logits: Tensor,
    tau: float | Tensor = 1,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    generator: Generator | None = None,
) -> Tensor:
    """`torch.nn.functional.gumbel_softmax`: the same arguments and distribution, finite in every draw.

    Args:
        logits: `[..., categories]`, the categories along `dim`.
        tau: temperature, greater than 0; a tensor without axes gets its gradient if it requires grad.
        hard: return one-hot draws, differentiated as if they were the soft ones.
        eps: no longer used, as in torch.
        dim: axis of the categories.
        generator: source of the noise; torch's global one unless given.

    Raises:
        ValueError: when `tau` is out of range or a tensor with axes, or `dim` is no axis.

    Example:
        >>> import torch
        >>> gumbel_softmax(torch.zeros(2, 3), tau=0.5, hard=True).sum(dim=-1)
        tensor([1., 1.])
    """
    del eps
    if isinstance(tau, Tensor) and tau.dim():
        raise Refusal(f"gumbel_softmax: tau is one number, or a tensor without axes; given {list(tau.shape)}")
    estimator = (StraightThroughGumbelSoftmax if hard else GumbelSoftmax)(temperature=tau)
    if isinstance(tau, Tensor):
        estimator.temperature = tau  # an option keeps the value alone
    return sample(logits, estimator, dim, generator)


def unimix(logits: Tensor, share: float = 0.01, dim: int = -1) -> Tensor:
    """Log-probabilities of softmax(logits) mixed with the even distribution, differentiable in the logits.

    log((1 - share) softmax(logits) + share / K), K the number of categories that are not masked by -inf; masked ones
    stay masked. Whatever draws from these logits, measures a divergence with them or differentiates through them means
    one and the same distribution.

    Args:
        logits: `[..., categories]`, the categories along `dim`.
        share: of the even distribution, in [0, 1); world models take .01 (Hafner et al., 2023, 2301.04104).
        dim: axis of the categories.

    Raises:
        ValueError: when `share` is out of range.

    Example:
        >>> import torch
        >>> unimix(torch.tensor([0.0, -100.0]), share=0.5).exp()
        tensor([0.7500, 0.2500])
    """
    if not 0 <= share < 1:
        raise Refusal(f"unimix: the share of the even distribution must be in [0, 1); given {share}")
    if share == 0:
        return logits
    along = logits.movedim(dim, -1)
    if readable(along) and not (along.detach() == float("-inf")).any():  # as usual, in two thirds of the time
        p = softmax(along)
        return torch.log((1 - share) * p + share / p.shape[-1]).to(logits.dtype).movedim(-1, dim)
    theta = log_softmax(along)
    masked = theta == float("-inf")
    even = share / (~masked).sum(dim=-1, keepdim=True)
    # the mask is taken out before the logarithm: its derivative at 0 would turn zeros into NaN
    mixed = torch.log((1 - share) * theta.masked_fill(masked, 0).exp() + even).masked_fill(masked, float("-inf"))
    return mixed.to(logits.dtype).movedim(-1, dim)


_PROBE = torch.tensor([[0.0, 1.0]])


def category_drawer(estimator: Sampler | str, where: str) -> Sampler:
    """Returns a sampler (see `sampler_of`) whose draws are one whole category, from softmax(logits), in every latent.

    Raises:
        ValueError: when it draws subsets, weighs or relaxes its draws, or draws from another distribution.
    """
    made = sampler_of(estimator)
    follows = made.distribution(_PROBE)
    as_given = type(follows) is Categorical and follows.logits is _PROBE
    if made.ones != 1 or not made.hard or made.needs_slopes == "drawn" or not as_given:
        raise Refusal(
            f"{where} takes draws of one category from softmax(logits); {in_words(made)} does not make such draws. "
            "ReinMax, StraightThrough and the ILS family do"
        )
    return made


def sampler_of(estimator: Sampler | str) -> Sampler:
    """Returns a sampler, given as it is or by the name of its class.

    Raises:
        ValueError: when there is no such class, it cannot draw, or it learns and so needs an instance.
    """
    made = _made(estimator) if isinstance(estimator, str) else estimator
    if isinstance(made, dict):
        raise Refusal(
            "an estimator is an instance or a name here, where a description would be read at every call: give "
            "ReinMax(temperature=1.5), not {'class_path': ...}"
        )
    if isinstance(made, type):
        raise Refusal(f"an estimator is an instance or a name: give {made.__name__}() or {made.__name__!r}")
    if not isinstance(made, Sampler):
        raise Refusal(
            f"{type(made).__name__} has no draw that can be differentiated: call it as estimator(logits, f), or take a "
            "pathwise estimator such as StraightThrough or ReinMax"
        )
    if isinstance(estimator, str) and (made.pooled_by_state or next(made.parameters(), None) is not None):
        raise Refusal(
            f"{estimator} learns from the draws it makes, so it must be kept: give an instance, {estimator}(), that "
            "the model holds, not its name"
        )
    return made


@functools.cache
def _made(name: str) -> Estimator:
    made = getattr(estimators, name, None)
    if isinstance(made, type) and issubclass(made, Estimator):
        needed = [o.name for o in inspect.signature(made).parameters.values() if o.default is o.empty]
        if needed:
            raise Refusal(f"{name} needs {' and '.join(needed)}, so that its name does not do: give an instance")
        return made()
    classes = [n for n in estimators.__all__ if isinstance(getattr(estimators, n), type)]
    near = difflib.get_close_matches(name, classes, n=1, cutoff=0)
    raise Refusal(f"there is no estimator {name!r}; the nearest is {near[0]!r}")


@contextmanager
def noise_from(generator: Generator | None) -> Iterator[None]:
    """A context in which all of torch's noise comes from a generator; its state goes on, the global one stays.

    While draws are being measured they take the measurement's noise, which is the same each time.
    """
    if generator is None or draws_are_replaced():
        yield
        return
    device = generator.device
    here = torch.random if device.type == "cpu" else getattr(torch, device.type)
    place = () if device.type == "cpu" else (device,)
    before = here.get_rng_state(*place)
    here.set_rng_state(generator.get_state(), *place)
    try:
        yield
    finally:
        generator.set_state(here.get_rng_state(*place))
        here.set_rng_state(before, *place)
