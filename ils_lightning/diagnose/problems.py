"""A model's own problem: its logits of a batch and its loss of draws, with the model left as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ils_lightning.errors import Refusal
from ils_lightning.estimators import evaluate
from ils_lightning.estimators.coupling import CouplingError, check_coupling
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
            f"loss as a function of draws z [samples, *batch, latents, categories]; {type(model).__name__} has none. "
            "Where it draws by a function, a distribution or a layer of this package, the method is one line: return "
            "ils_lightning.diagnose.problem_of_draw(lambda: self.losses(batch)), where losses answers one value a row"
        )
    with _kept(model):
        model.eval()
        with torch.no_grad():
            logits, f, estimator = _cut(model, batch, rows)
        yield Problem(logits.detach(), f, estimator or getattr(model, "estimator", None))


@torch.no_grad()
def coupling_in_training(model: nn.Module, batch: Any) -> str:
    """Asks whether the model's loss of a whole batch judges each row by itself, as the model stands and in evaluation.

    Returns:
        A remark where it does in evaluation mode, in which models are measured, but not as it stands; else nothing.

    Raises:
        CouplingError: when it does not in evaluation mode.
    """
    if not isinstance(model, HasProblem):
        return ""
    with _kept(model):
        remark = _remark(model, batch)
        model.eval()
        logits, f, _ = model.problem(batch)
        check_coupling(partial(evaluate, f), logits, 1)
    return remark


def _remark(model: HasProblem, batch: Any) -> str:
    logits, f, _ = model.problem(batch)
    try:
        check_coupling(partial(evaluate, f), logits, 1)
    except CouplingError:
        return (
            "note: in training mode a row's loss depends on the draws of other rows (batch normalisation does that), "
            "which no estimator allows for; what is measured here is the loss in evaluation mode"
        )
    return ""


@contextmanager
def _kept(model: nn.Module) -> Iterator[None]:
    """Puts modes and buffers back at the end."""
    modes = {module: module.training for module in model.modules()}
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    try:
        yield
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
