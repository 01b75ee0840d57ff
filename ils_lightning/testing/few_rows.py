"""Laws of training mode with few rows a step, where what leaks from a draw into its own estimate is largest.

A baseline, a coefficient or a curvature that has seen the present draw makes an estimate biased, by about one over the
number of rows. A single batch of all replicates hides that, and so does evaluation mode, in which nothing is learnt.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from ils_lightning.estimators import Estimator
from ils_lightning.testing.laws import Make, require
from ils_lightning.testing.problems import Problem, truth
from ils_lightning.testing.replicates import Moments, problem_for, worst

ROWS = 4
PROBLEM = {"linear": "linear", "quadratic": "quadratic", "all": "mlp"}
"""The hardest loss for which a declared `exact_for` promises the gradient."""


def learning(make: Make, steps: int = 300) -> None:
    """A step's draws teach after its estimate: given the state before it, the mean is that of evaluation mode.

    Both modes get the same noise. Where their estimates are equal throughout 20 steps nothing is left to be tested;
    elsewhere the mean of their difference over `steps` steps of four rows is held against its own noise.
    """
    estimator = make().double()
    problem = problem_for(estimator, "mlp")
    estimator.build(*problem.logits.shape)
    found = pairs(estimator, problem)
    warm = torch.stack([next(found) for _ in range(20)])
    if bool((warm.abs() < 1e-9).all()):
        return
    moments = Moments()
    moments.add(torch.stack([next(found) for _ in range(steps)]))
    score = worst(moments, torch.zeros_like(problem.logits))
    require(
        score < 1,
        "given the state before a step, its mean estimate must be the same in training and in evaluation mode; with "
        f"{ROWS} rows it is {score:.3g} times as far off as chance allows: read the state before the step's own draws "
        "change it",
    )


def pairs(estimator: Estimator, problem: Problem) -> Iterator[Tensor]:
    """Mean estimate of a step in training mode less that in evaluation mode, same state and noise; it learns on."""
    for seed in range(10**9):
        still = copy.deepcopy(estimator).eval()
        with torch.random.fork_rng(devices=[]):
            yield step(estimator.train(), problem, seed) - step(still, problem, seed)


def step(estimator: Estimator, problem: Problem, seed: int) -> Tensor:
    """Estimate of one step, its mean over four rows."""
    torch.manual_seed(seed)
    return estimator.estimate(problem.logits.expand(ROWS, -1, -1), problem.loss())[1].detach().mean(dim=0)


def few_rows(make: Make, steps: int = 600) -> None:
    """Four rows a step keep the promise of `exact_for`, in training mode and from a state of a few steps.

    It concerns estimators whose rows see each other: those declared unbiased, and those that pool without a state.
    (What a state teaches a biased one is `learning`'s; `declarations` tells what a fresh one promises.)
    """
    estimator = make().double()
    if not concerns(estimator):
        return
    problem = problem_for(estimator, PROBLEM[estimator.exact_for])
    score = worst_score_of_few(estimator, problem, steps)
    require(
        score < 1,
        f'it declares exact_for = "{estimator.exact_for}", but with {ROWS} rows a step the worst component of the mean '
        f"estimate is {score:.3g} times as far from the exact gradient as chance allows: does a draw reach its own "
        "baseline, coefficient or curvature?",
    )


def concerns(estimator: Estimator) -> bool:
    """Whether `few_rows` has anything to say of an estimator."""
    promises = estimator.unbiased or (estimator.exact_for != "none" and not estimator.pooled_by_state)
    return estimator.pooled and promises


def worst_score_of_few(estimator: Estimator, problem: Problem, steps: int) -> float:
    """Worst score of the mean of `steps` estimates, a fresh copy learning anew after each four."""
    estimator.build(*problem.logits.shape)
    found, alive = [], estimator
    with torch.random.fork_rng(devices=[]):
        for seed in range(steps):
            alive = copy.deepcopy(estimator).train() if seed % 4 == 0 else alive
            found.append(step(alive, problem, seed))
    moments = Moments()
    moments.add(torch.stack(found))
    return worst(moments, truth(problem)["gradient"])
