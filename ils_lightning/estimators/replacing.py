"""Draws that are made by someone else: how a draw inside code that was not written for it is measured.

Every draw of the functions, distributions and layers, and every `act` of a score function, passes through `drawn`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

Draw = Callable[[Any, Tensor], Tensor]
"""Maps an estimator and logits `[*batch, latents, categories]` to a draw."""

_replaced: ContextVar[Draw | None] = ContextVar("who makes draws", default=None)


def drawn(sampler: Any, logits: Tensor) -> Tensor:
    """Draws `[*batch, latents, categories]` by the sampler, or by what replaces draws here."""
    if torch.compiler.is_compiling():  # which cannot look at the context, nor run code that was not compiled
        return sampler.sample(logits)
    replacement = _replaced.get()
    return sampler.sample(logits) if replacement is None else replacement(sampler, logits)


@contextmanager
def replacing_draws(replacement: Draw) -> Iterator[None]:
    """A context in which draws are made by a function of the estimator and the logits."""
    token = _replaced.set(replacement)
    try:
        yield
    finally:
        _replaced.reset(token)


def draws_are_replaced() -> bool:
    """Whether draws are being measured (`replacing_draws`): layers then draw in any mode, and learn nothing."""
    return not torch.compiler.is_compiling() and _replaced.get() is not None
