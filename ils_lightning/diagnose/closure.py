"""The gradient problem of a draw inside code that was not written for it: a distribution, a quantizer, a router."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator, Loss, Sampler
from ils_lightning.estimators.categorical import top
from ils_lightning.estimators.replacing import Draw, replacing_draws
from ils_lightning.modules.base import Problem

Judge = Callable[[Tensor], Tensor]
"""Maps one draw of the batch `[*batch, latents, categories]` to the closure's answer `[*batch]`."""


def problem_of_draw(closure: Callable[[], Tensor], which: int = 0, seed: int = 0) -> Problem:
    """Returns the logits of one of a closure's draws, and the closure's answer as a loss of that draw.

    The closure is any code that draws by `functional.sample`, by `rsample` of a distribution of this package, by `act`
    of a score function, or in a `Quantizer` or `Router`, which draw here in evaluation mode too. It answers one value a
    row of the draw's logits, or one for several rows that follow each other, as a `Quantizer` has for a picture: those
    rows are then latents of one. Its other draws, and dropout, are made with the same noise each time (a generator of
    their own is not asked), so that the loss of a draw is one number. No estimator learns meanwhile; running statistics
    of the closure's own layers (BatchNorm) count each call, unless those are in evaluation mode.

    Many draws are judged in one call of the closure by `torch.vmap`, where two draws get the same answers so. Code
    that vmap does not take (`.item()`, a choice by values, `nn.GRU` but not `nn.GRUCell`, BatchNorm in training) is
    called once a draw.

    In a module it makes `problem`, by which `diagnose` and `GradientProbe` measure it:

        def problem(self, batch):
            return problem_of_draw(lambda: self.losses(batch))     # losses: one value a row

    Args:
        closure: called without arguments; answers `[*batch]`, or the first axes of it.
        which: number of the draw, in the order in which they are made, from 0.
        seed: of the closure's other noise.

    Returns:
        What `gradient_report(problem.loss, problem.logits)` takes; `problem.estimator` is the one that drew (where it
        draws subsets, its `ones` goes there too).

    Raises:
        ValueError: when there are fewer draws, the answer is not one value a row or for several, or the estimator
            weighs its draws itself (`SparseMixer`), so that they are no draws of softmax(logits).

    Example:
        >>> import torch
        >>> from ils_lightning.diagnose import gradient_report
        >>> from ils_lightning.distributions import OneHotCategorical
        >>> logits, w = torch.randn(4, 2, 3), torch.randn(2, 3)
        >>> def closure():
        ...     z = OneHotCategorical(logits=logits).rsample()
        ...     return (z * w).sum((-2, -1)).square()
        >>> problem = problem_of_draw(closure)
        >>> report = gradient_report(problem.loss, problem.logits, ["ReinMax", "LeaveOneOut"], draws=500)
    """
    seen: list[tuple[Estimator, Tensor]] = []

    def note(estimator: Estimator, logits: Tensor) -> Tensor:
        seen.append((estimator, logits.detach()))
        return _unlearning(estimator, logits)

    answer = _called(closure, note, seed)
    if not 0 <= which < len(seen):
        raise Refusal(
            f"the closure makes {len(seen)} draws by functions, distributions or layers of this package (compiled code "
            f"hides its own); asked for number {which}, counted from 0"
        )
    estimator, logits = seen[which]
    if estimator.needs_slopes == "drawn":
        raise Refusal(
            f"{type(estimator).__name__} weighs its draws by their probability, so that its loss is no function of "
            "one-hot draws; measure the same code with ReinMax in its place"
        )
    rows, judge = _of_answer(logits, answer), _judge(closure, which, seed)
    batched = _can_be_batched(judge, rows, estimator.ones)
    return Problem(rows, _all_at_once(judge) if batched else _in_turn(judge), estimator)


def _of_answer(logits: Tensor, answer: Any) -> Tensor:
    """The logits as rows of the answer: several rows of theirs that it judges together are latents of one."""
    batch, given = logits.shape[:-2], type(answer).__name__
    if isinstance(answer, Tensor):
        given, axes = list(answer.shape), answer.dim()
        # rows that were made one axis (tokens of a router, vectors of a quantizer) may be answered by the axes they had
        several = len(batch) == 1 and answer.numel() > 0 and batch.numel() % answer.numel() == 0
        mean_of_all = axes == 0 and batch.numel() > 1
        if (batch[:axes] == answer.shape or several) and not mean_of_all:
            return logits.reshape(*answer.shape, -1, logits.shape[-1])
    raise Refusal(
        f"the closure must answer one value a row of the draw's logits, [*batch] = {list(batch)}, or one for several "
        f"that follow each other; it answered {given}"
    )


def _unlearning(estimator: Estimator, logits: Tensor) -> Tensor:
    """A draw of an estimator, whose backward teaches it nothing."""
    if not isinstance(estimator, Sampler):
        return estimator.distribution(logits).draw().to(logits.dtype)
    return (copy.deepcopy(estimator).eval() if estimator.learns else estimator).sample(logits)


def _judge(closure: Callable[[], Tensor], which: int, seed: int) -> Judge:
    """The closure's answer `[*batch]` for a given draw `[*batch, latents, categories]`."""

    def judge(z: Tensor) -> Tensor:
        count = -1

        def put(estimator: Estimator, logits: Tensor) -> Tensor:
            nonlocal count
            count += 1
            own = _unlearning(estimator, logits)  # made in any case, so that later noise stays the same
            return z.to(logits.dtype).reshape(logits.shape) if count == which else own

        return _called(closure, put, seed)

    return judge


def _in_turn(judge: Judge) -> Loss:
    return lambda z: torch.stack([judge(one) for one in z])


def _all_at_once(judge: Judge) -> Loss:
    many = torch.vmap(judge, randomness="same")

    def f(z: Tensor) -> Tensor:
        with warnings.catch_warnings():  # one operation that goes draw by draw is still less than a call each
            warnings.filterwarnings("ignore", "There is a performance drop")
            return many(z)

    return f


def _can_be_batched(judge: Judge, logits: Tensor, ones: int) -> bool:
    """Whether two draws judged in one call get the answers and slopes that they get in a call each."""
    generator = torch.Generator(logits.device).manual_seed(0)
    order = torch.rand((2, *logits.shape), generator=generator, device=logits.device)
    z = top(order.masked_fill(logits == float("-inf"), -1), ones).to(logits.dtype)
    try:
        found = _answer_and_slope(_all_at_once(judge), z)
    except Exception:  # whatever it is: a fault of the closure's own shows itself in the other way
        return False
    return all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-6)
        for a, b in zip(found, _answer_and_slope(_in_turn(judge), z), strict=True)
    )


def _answer_and_slope(f: Loss, z: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        answer = f(leaf)
        if not answer.requires_grad:
            return answer, torch.zeros_like(z)
        (slope,) = torch.autograd.grad(answer.sum(), leaf, allow_unused=True)
    return answer.detach(), torch.zeros_like(z) if slope is None else slope


def _called(closure: Callable[[], Tensor], draw: Draw, seed: int) -> Tensor:
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices), replacing_draws(draw):
        torch.manual_seed(seed)
        return closure()
