"""The gradient problem of a draw inside code that was not written for it: a distribution, a quantizer, a router."""

from collections.abc import Callable

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators import Sampler
from ils_lightning.functional import replacing_draws
from ils_lightning.modules.base import Problem


def problem_of_draw(closure: Callable[[], Tensor], which: int = 0, seed: int = 0) -> Problem:
    """Returns the logits of one of a closure's draws, and the closure's answer as a loss of that draw.

    The closure is any code that draws by `functional.sample`, by `rsample` of a distribution of this package, or in a
    `Quantizer` or `Router`, which draw here in evaluation mode too, and learn nothing meanwhile. It answers one value a
    row of the draw's logits. Its other draws, and dropout, are made with the same noise each time, so that the loss of
    a draw is one number.

    In a module it makes `problem`, by which `diagnose` and `GradientProbe` measure it:

        def problem(self, batch):
            return problem_of_draw(lambda: self.losses(batch))     # losses: one value a row

    Args:
        closure: called without arguments; answers `[*batch]`.
        which: number of the draw, in the order in which they are made, from 0.
        seed: of the closure's other noise.

    Returns:
        What `gradient_report(problem.loss, problem.logits)` takes; `problem.estimator` is the one that drew (where it
        draws subsets, its `ones` goes there too).

    Raises:
        ValueError: when there are fewer draws, the answer is not one value a row, or the estimator weighs its draws
            itself (`SparseMixer`), so that they are no draws of softmax(logits).

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
    seen: list[tuple[Sampler, Tensor]] = []

    def note(sampler: Sampler, logits: Tensor) -> Tensor:
        seen.append((sampler, logits.detach()))
        return sampler.sample(logits)

    answer = _called(closure, note, seed)
    if not 0 <= which < len(seen):
        raise Refusal(
            f"the closure makes {len(seen)} draws by functions, distributions or layers of this package; asked for "
            f"number {which}, counted from 0"
        )
    sampler, logits = seen[which]
    if sampler.needs_slopes == "drawn":
        raise Refusal(
            f"{type(sampler).__name__} weighs its draws by their probability, so that its loss is no function of "
            "one-hot draws; measure the same code with ReinMax in its place"
        )
    if answer.shape != logits.shape[:-2]:
        raise Refusal(
            f"the closure must answer one value a row of the draw's logits, [*batch] = {list(logits.shape[:-2])}; it "
            f"answered {list(answer.shape)}"
        )
    return Problem(logits, _loss(closure, which, seed), sampler)


def _loss(closure: Callable[[], Tensor], which: int, seed: int) -> Callable[[Tensor], Tensor]:
    """The closure's answers `[samples, *batch]` for given draws `[samples, *batch, latents, categories]`."""

    def once(z: Tensor) -> Tensor:
        count = -1

        def put(sampler: Sampler, logits: Tensor) -> Tensor:
            nonlocal count
            count += 1
            own = sampler.sample(logits)  # made in any case, so that later noise stays the same
            return z.to(logits.dtype) if count == which else own

        return _called(closure, put, seed)

    return lambda z: torch.stack([once(one) for one in z])


def _called(closure: Callable[[], Tensor], draw: Callable[[Sampler, Tensor], Tensor], seed: int) -> Tensor:
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices), replacing_draws(draw):
        torch.manual_seed(seed)
        return closure()
