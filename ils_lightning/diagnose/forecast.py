"""What a report will take where the loss is slow, told before it begins.

A call of f on n draws is taken to last one + (n - 1) each, from two calls that are timed; how many calls there will be
on how many draws follows from the plan of every estimator.
"""

import sys
import time
from collections.abc import Iterable
from math import ceil
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ils_lightning.diagnose import replicates
from ils_lightning.diagnose.inputs import Facts
from ils_lightning.diagnose.memory import PeakMemory
from ils_lightning.diagnose.tables import number
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator, LeaveOneOut, Loss, Pullback, evaluate
from ils_lightning.estimators.coupling import followed

Source = Literal["known", "states", "reference"]
"""Where the gradient comes from: what the loss knows of its expectation, all states, or many unbiased estimates."""
LONG = 10.0
"""Seconds of f from which on a reader is told."""
_DRAWS = 16
_SLOW = 0.5
"""Seconds of a call from which on many draws are not tried: they are taken to gain nothing."""


class Call(NamedTuple):
    """Seconds of a call of f on one draw, seconds of each further draw, and bytes of one: at the peak, and in all."""

    one: float
    each: float
    peak: int
    total: int


class Work(NamedTuple):
    """Calls of f, the draws in all of them, and what they are for."""

    calls: float
    draws: float
    reason: str

    def seconds(self, call: Call) -> float:
        """How long they last."""
        return self.calls * call.one + max(0.0, self.draws - self.calls) * call.each


def tell(
    named: Iterable[Estimator],
    logits: Tensor,
    f: Loss,
    facts: Facts,
    draws: int,
    settle: int,
    memory: int,
    truth: Source,
) -> None:
    """Says on the standard error how many calls of f a report is, and how long they last, where that is long.

    Args:
        named: what is measured.
        logits: as given.
        f: the loss.
        facts: of the problem.
        draws: of each.
        settle: steps of those that learn.
        memory: bytes of a call.
        truth: what estimates are held against.
    """
    call = timed(logits, f, facts)
    of_each = _of_estimators(named, logits, facts, draws, settle, memory, call)
    if (line := words([_of_truth(truth, facts, memory, call), *of_each], call)) is not None:
        sys.stderr.write(f"note: {line}\n")


def words(parts: Iterable[Work], call: Call) -> str | None:
    """Returns the line, or nothing where it does not take long.

    Example:
        >>> words([Work(1000, 16_000, "draws=1000"), Work(960, 960, "settle=30")], Call(0.1, 0.05, 0, 0))
        'about 2,000 calls of the loss, 16 minutes: 14 minutes for draws=1000, 96 seconds for settle=30; ...
    """
    found = sorted(parts, key=lambda part: -part.seconds(call))
    seconds, calls = sum(part.seconds(call) for part in found), sum(part.calls for part in found)
    if seconds < LONG:
        return None
    shares = [f"{_span(part.seconds(call))} for {part.reason}" for part in found if part.seconds(call) > 0.05 * seconds]
    return (
        f"about {float(f'{calls:.2g}'):,.0f} calls of the loss, {_span(seconds)}: {', '.join(shares)}; fewer draws, "
        "steps of settle and estimators take less"
    )


def _span(seconds: float) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{number(seconds / size, 2)} {unit}"
    return f"{number(seconds, 2)} seconds"


def timed(logits: Tensor, f: Loss, facts: Facts) -> Call:
    """Times f, with its backward where there is one, and counts its bytes."""
    z = followed(logits, facts.ones).draw(_DRAWS).to(logits.dtype)
    with PeakMemory() as used:
        _call(f, z[:1], facts)
    one = _seconds(f, z[:1], facts)
    each = one if one > _SLOW else max(0.0, _seconds(f, z, facts) - one) / (_DRAWS - 1)
    return Call(one, each, used.peak, used.total)


def _seconds(f: Loss, z: Tensor, facts: Facts) -> float:
    start = time.perf_counter()
    _call(f, z, facts).sum().item()  # which waits for an accelerator
    return time.perf_counter() - start


def _call(f: Loss, z: Tensor, facts: Facts) -> Tensor:
    with torch.set_grad_enabled(facts.differentiable):
        leaf = z.detach().requires_grad_(facts.differentiable)
        loss = evaluate(f, leaf)
        return torch.autograd.grad(loss.sum(), leaf)[0] if facts.differentiable else loss


def _of_truth(truth: Source, facts: Facts, memory: int, call: Call) -> Work:
    if truth == "known":
        return Work(0, 0, "")
    if truth == "states":
        at_once = max(1, memory // max(1, call.peak))
        reason = f"the sum over {facts.states:,} states (exact=False does without)"
        return Work(ceil(facts.states / at_once), facts.states, reason)
    own = LeaveOneOut(samples=16)
    plan = _plan(own, facts, 32 * replicates.BLOCKS, 0, memory, call)
    calls, of_draws = _measured(own, facts, plan)
    return Work(calls, of_draws, "the first round of a reference in place of the exact gradient (exact)")


def _of_estimators(
    named: Iterable[Estimator], logits: Tensor, facts: Facts, draws: int, settle: int, memory: int, call: Call
) -> list[Work]:
    calls = of_draws = settling = of_settling = 0
    for estimator in named:
        if estimator.kind == "exact" or estimator.ones != facts.ones:
            continue
        if estimator.needs_gradient and not facts.differentiable:
            continue
        try:
            estimator.check(logits)
            own = replicates.ready(estimator, logits)
        except Refusal:  # which its row will tell
            continue
        plan = _plan(own, facts, draws, settle, memory, call)
        more, of_more = _measured(own, facts, plan)
        calls, of_draws = calls + more, of_draws + of_more
        steps = plan.blocks * plan.settle
        settling += steps * own.calls
        of_settling += steps * own.evaluations(facts.latents, facts.categories)
    return [Work(calls, of_draws, f"draws={draws}"), Work(settling, of_settling, f"settle={settle}")]


def _plan(own: Estimator, facts: Facts, draws: int, settle: int, memory: int, call: Call) -> replicates.Plan:
    evaluations = own.evaluations(facts.latents, facts.categories)
    return replicates.plan(own, draws, settle, call.peak * evaluations, call.total * evaluations, memory)


def _measured(own: Estimator, facts: Facts, plan: replicates.Plan) -> tuple[int, int]:
    """Calls of f that measure an estimator, and the draws in them."""
    if replicates.pools_in_batch(own) and not isinstance(own, Pullback):
        calls = plan.draws
    elif replicates.learns(own) or plan.copies < 2 * plan.width:
        calls = plan.blocks * ceil(plan.width / plan.copies)
    else:
        calls = ceil(plan.blocks / (plan.copies // plan.width))
    return calls * own.calls, plan.draws * own.evaluations(facts.latents, facts.categories)
