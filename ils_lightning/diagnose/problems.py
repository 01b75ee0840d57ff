"""A model's own problem: its logits of a batch and its loss of draws, with the model left as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ils_lightning.errors import Refusal
from ils_lightning.modules.base import HasProblem, Problem


@contextmanager
def problem_of(model: nn.Module, batch: Any, rows: int | None = None) -> Iterator[Problem]:
    """Gives logits, loss and estimator in use of a batch, the model being in evaluation mode inside the block.

    In evaluation mode dropout draws no noise and batch normalisation changes nothing. Modes and buffers are put back.

    Args:
        model: any module with `problem(batch)` (see `HasProblem`).
        batch: what the model's training step takes.
        rows: how many rows of the batch to use, the first ones; all unless given.

    Raises:
        ValueError: when the model has no `problem`.
    """
    if not isinstance(model, HasProblem):
        raise Refusal(
            "the model must have a method problem(batch) that returns the logits [*batch, latents, categories] and the "
            f"loss as a function of draws z [samples, *batch, latents, categories]; {type(model).__name__} has none"
        )
    modes = {module: module.training for module in model.modules()}
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    model.eval()
    try:
        with torch.no_grad():
            logits, f, estimator = _cut(model, batch, rows)
        yield Problem(logits.detach(), f, estimator or getattr(model, "estimator", None))
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)


def _cut(model: HasProblem, batch: Any, rows: int | None) -> Problem:
    """The problem of the first rows: of a shorter batch where rows come from it, else with copies in the others' place.

    A batch axis of settings comes before that of rows, and is not cut.
    """
    problem = Problem(*model.problem(batch))
    logits, f, estimator = problem
    if rows is None or logits.dim() != 3 or rows >= len(logits):
        return problem
    whole = len(logits)
    fewer = tree_map(lambda x: x[:rows] if isinstance(x, Tensor) and x.dim() and len(x) == whole else x, batch)
    short = Problem(*model.problem(fewer))
    if len(short.logits) == rows:
        return short

    def padded(z: Tensor) -> Tensor:
        return f(torch.cat([z, z[:, :1].expand(-1, whole - rows, -1, -1)], dim=1))[:, :rows]

    return Problem(logits[:rows], padded, estimator)
