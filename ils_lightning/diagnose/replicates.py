"""Blocks of estimates of one problem, each block independent of the others.

An estimator without state is asked for many replicates of the batch at once (see `copies`). One that learns starts
every block from the state it was given, learns for `settle` steps on the batch as it would in training, and is then
measured with that state held fixed, as a training step reads its state before it adds to it. Where rows pool inside one
batch, replicates that shared a call would pool with each other: each is combined, or called, on the batch alone.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor

from ils_lightning.diagnose.copies import estimate_copies, pull_back_copies
from ils_lightning.diagnose.memory import PeakMemory
from ils_lightning.estimators import Estimator, Loss, Pullback

BLOCKS = 128
"""Blocks aimed at; their scatter gives the confidence intervals."""
LEARNING_BLOCKS = 32
"""The same where every block has to settle first."""
FEWEST = 32
WORK = 2**35
"""Bytes that all estimates of one estimator may write: some ten seconds on one core."""
LEARNING_RATE = 0.01
"""Of Adam, for an estimator's own parameters while it settles."""


class Plan(NamedTuple):
    """How many blocks of how many estimates, and how many of these go into one call."""

    blocks: int
    width: int
    copies: int
    settle: int

    @property
    def draws(self) -> int:
        """Number of estimates."""
        return self.blocks * self.width


def learns(estimator: Estimator) -> bool:
    """Whether the estimator has state that training changes."""
    return bool(estimator.state_dict())


def ready(estimator: Estimator, logits: Tensor) -> Estimator:
    """Returns a copy for logits of this kind; the state of 64-bit statistics stays what it is."""
    own = deepcopy(estimator).to(logits.device)
    if not learns(own):
        own.build(*logits.shape[-2:])
    return own.double() if logits.dtype == torch.float64 else own


def pools_in_batch(estimator: Estimator) -> bool:
    """Whether rows of one batch depend on each other even while the state is held fixed."""
    return estimator.pooled and not estimator.pooled_by_state


def plan(estimator: Estimator, draws: int, settle: int, peak: int, work: int, memory: int) -> Plan:
    """Divides `draws` estimates of `peak` bytes each, so that a call stays within `memory` bytes.

    Where all of them would write more than `WORK` bytes, `work` each, there are fewer. A block has two at least: one
    estimate has no variance.
    """
    draws = max(FEWEST, min(draws, WORK // max(1, work)))
    blocks = min(draws, LEARNING_BLOCKS if learns(estimator) else BLOCKS)
    width, copies = max(2, -(-draws // blocks)), max(1, memory // max(1, peak))
    return Plan(-(-draws // width), width, copies, settle if learns(estimator) else 0)


def cost_of_one(estimator: Estimator, logits: Tensor, f: Loss) -> tuple[int, int]:
    """Returns the bytes alive at the peak of one estimate of the batch, and those it writes in all."""
    trial = deepcopy(estimator).eval()
    with PeakMemory() as memory:
        estimate_once(trial, logits, f)
    return memory.peak, memory.total


def estimate_once(estimator: Estimator, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
    """Returns the loss `[1, *batch]` and one estimate `[1, *batch, latents, categories]` of the batch itself."""
    loss, estimate = estimator.estimate(logits, f)
    return loss.detach().unsqueeze(0), estimate.detach().unsqueeze(0)


def blocks(estimator: Estimator, logits: Tensor, f: Loss, plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields losses `[blocks, width, *batch]` and estimates `[blocks, width, *batch, latents, categories]`.

    The estimator given is left as it is.
    """
    if learns(estimator):
        for _ in range(plan.blocks):
            yield _block(settled(estimator, logits, f, plan.settle), logits, f, plan)
        return
    frozen = deepcopy(estimator).eval()
    together = max(1, plan.copies // plan.width)
    if together == 1:
        for _ in range(plan.blocks):
            yield _block(frozen, logits, f, plan)
        return
    for start in range(0, plan.blocks, together):
        count = min(together, plan.blocks - start)
        loss, estimate = _together(frozen, logits, f, count * plan.width)
        yield loss.unflatten(0, (count, plan.width)), estimate.unflatten(0, (count, plan.width))


def _block(estimator: Estimator, logits: Tensor, f: Loss, plan: Plan) -> tuple[Tensor, Tensor]:
    """One block, in as many calls as it takes."""
    sizes = [min(plan.copies, plan.width - start) for start in range(0, plan.width, plan.copies)]
    losses, estimates = zip(*[_together(estimator, logits, f, size) for size in sizes], strict=True)
    return torch.cat(losses).unsqueeze(0), torch.cat(estimates).unsqueeze(0)


def _together(estimator: Estimator, logits: Tensor, f: Loss, copies: int) -> tuple[Tensor, Tensor]:
    """Losses `[copies, *batch]` and estimates `[copies, *batch, latents, categories]` of independent replicates."""
    if not pools_in_batch(estimator):
        return estimate_copies(estimator, logits, f, copies)
    if isinstance(estimator, Pullback):
        return pull_back_copies(estimator, logits, f, copies)
    losses, estimates = zip(*[estimate_once(estimator, logits, f) for _ in range(copies)], strict=True)
    return torch.cat(losses), torch.cat(estimates)


def settled(estimator: Estimator, logits: Tensor, f: Loss, steps: int) -> Estimator:
    """Returns a copy that has learnt for `steps` steps on the batch, its own parameters by Adam on |estimate|^2."""
    own = deepcopy(estimator).train()
    parameters = [p for p in own.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE) if parameters else None
    for _ in range(steps):
        with torch.set_grad_enabled(optimizer is not None):
            _, estimate = own.estimate(logits, f)
            square = estimate.square().sum(dim=(-2, -1)).mean()
        if optimizer is not None and square.requires_grad:
            gradients = torch.autograd.grad(square, parameters, allow_unused=True)
            for p, gradient in zip(parameters, gradients, strict=True):
                p.grad = gradient
            optimizer.step()
    return own.eval()
