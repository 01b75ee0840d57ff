"""What estimates are held against: the gradient in closed form, by enumeration, or by many unbiased estimates.

E f = sum_z p(z) f(z);   d E f / d theta = sum_z p(z) (f(z) - E f)(z - pi) = sum_z p(z) f(z) z - pi E f
with pi = E z: the probabilities of one category, or the marginals of subsets.
"""

from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from ils_lightning.diagnose import replicates
from ils_lightning.diagnose.inputs import Facts
from ils_lightning.diagnose.memory import PeakMemory, fitting
from ils_lightning.errors import Refusal
from ils_lightning.estimators import Estimator, Loss, evaluate
from ils_lightning.estimators.categorical import indices, log_softmax, one_hot, softmax
from ils_lightning.estimators.coupling import followed
from ils_lightning.estimators.distribution import Distribution
from ils_lightning.estimators.joint import digits
from ils_lightning.estimators.loss import known_expectation


class Target(NamedTuple):
    """The gradient of E f and how it was found.

    Attributes:
        gradient: `[components]`, all of the batch in one vector, in float64.
        value: mean of E f over rows.
        noise: block means of a reference less their mean, `[blocks, components]`; None for the exact gradient.
        source: a sentence for the report.
    """

    gradient: Tensor
    value: float
    noise: Tensor | None
    source: str

    @property
    def square(self) -> float:
        """|G|^2, without what noise adds."""
        found = self.gradient.square().sum().item()
        if self.noise is None:
            return found
        return found - self.noise.square().sum().item() / len(self.noise) / (len(self.noise) - 1)


def closed_form(logits: Tensor, f: Loss, facts: Facts) -> Target | None:
    """Differentiates what f itself knows of its expectation over draws of one category a latent; else None."""
    known = known_expectation(f)
    if known is None or facts.ones > 1:
        return None
    with torch.enable_grad():
        theta = logits.detach().double().requires_grad_()
        value = known(softmax(theta))
        (gradient,) = torch.autograd.grad(value.sum(), theta)
    return Target(gradient.flatten(), value.mean().item(), None, "exact: the loss knows its expectation")


@torch.no_grad()
def enumerated(logits: Tensor, f: Loss, facts: Facts, memory: int) -> Target:
    """Sums f over all states, in chunks that stay within `memory` bytes.

    Raises:
        ValueError: when f is not finite at a state that can be drawn, whatever its probability.
    """
    q = followed(logits.double(), facts.ones)
    pi, choices = q.pi, _choices(logits, facts)
    theta = log_softmax(logits.double()) if choices is None else _log_prob(q, choices)  # [*batch, latents, choices]
    value, moment = pi.new_zeros(logits.shape[:-2]), torch.zeros_like(pi)
    for numbers in torch.arange(facts.states, device=logits.device).split(_states_at_once(logits, f, facts, memory)):
        index = digits(numbers, facts.choices, facts.latents)
        states = _states(index, choices, logits)
        p = theta.new_zeros(())
        for latent, chosen in enumerate(index.unbind(dim=-1)):
            p = p + theta[..., latent, :][..., chosen]
        p = p.exp()  # [*batch, states]
        loss = _losses(f, states, logits).movedim(0, -1).double()
        weighted = torch.where(p > 0, p * loss, 0)
        if not torch.isfinite(weighted).all():
            broken = _broken(weighted, states, facts.ones)
            raise Refusal(f"the loss f is not finite at a state that can be drawn: {broken}")
        value += weighted.sum(dim=-1)
        moment += (weighted @ states.double().flatten(1)).unflatten(-1, states.shape[1:])
    gradient = moment - value[..., None, None] * pi
    source = f"exact: every one of {facts.choices} ** {facts.latents} = {facts.states:,} states"
    return Target(gradient.flatten(), value.mean().item(), None, source)


def _choices(logits: Tensor, facts: Facts) -> Tensor | None:
    """The subsets of `ones` categories `[choices, categories]`; None where one is drawn, which needs no table."""
    if facts.ones == 1:
        return None
    chosen = torch.tensor(list(combinations(range(facts.categories), facts.ones)), device=logits.device)
    return torch.zeros(len(chosen), facts.categories, dtype=logits.dtype, device=logits.device).scatter_(1, chosen, 1)


def _log_prob(q: Distribution, choices: Tensor) -> Tensor:
    """Log-probability of each subset in each latent, `[*batch, latents, choices]`."""
    return torch.stack([q.log_prob(one.double().expand(q.logits.shape)) for one in choices], dim=-1)


def _states(index: Tensor, choices: Tensor | None, like: Tensor) -> Tensor:
    """States `[states, latents, categories]` of each latent's choice `[states, latents]`."""
    return one_hot(index, like) if choices is None else choices[index]


def _losses(f: Loss, states: Tensor, logits: Tensor) -> Tensor:
    """F of the same states in every row, `[states, *batch]`."""
    z = states.reshape(len(states), *[1] * (logits.dim() - 2), *states.shape[1:])
    return evaluate(f, z.expand(-1, *logits.shape))


def _states_at_once(logits: Tensor, f: Loss, facts: Facts, memory: int) -> int:
    few = min(4, facts.states)
    with PeakMemory() as used:
        index = digits(torch.arange(few, device=logits.device), facts.choices, facts.latents)
        _losses(f, _states(index, _choices(logits, facts), logits), logits).double()
    return fitting(memory, used.peak // few + 32 * facts.rows, facts.states)


def _broken(weighted: Tensor, states: Tensor, ones: int) -> str:
    *row, state = (~torch.isfinite(weighted)).nonzero()[0].tolist()
    return f"categories {indices(states[state], ones).tolist()} of row {row}"


def sampled(
    estimator: Estimator, logits: Tensor, f: Loss, facts: Facts, memory: int, error: float, evaluations: int
) -> Target:
    """Averages an unbiased estimator until its relative standard error is below `error`.

    It stops early, and says so, after `evaluations` evaluations of f a row.
    """
    plan = replicates.plan(estimator, 32 * replicates.BLOCKS, 0, *replicates.cost_of_one(estimator, logits, f), memory)
    each = plan.draws * estimator.evaluations(facts.latents, facts.categories)
    means, values, rounds = torch.zeros(()), torch.zeros(()), 0
    while True:
        e, loss = _round(estimator, logits, f, plan)
        rounds += 1
        means = means + (e - means) / rounds
        values = values + (loss - values) / rounds
        noise = means - means.mean(dim=0)
        target = Target(means.mean(dim=0), values.item(), noise, "")
        reached = (noise.square().sum().item() / len(noise) / (len(noise) - 1)) / max(target.square, 1e-300)
        if reached**0.5 <= error or (rounds + 1) * each > evaluations:
            break
    name, times = type(estimator).__name__, f"{plan.draws * rounds:,}"
    stopped = "" if reached**0.5 <= error else f"; stopped there, {100 * error:g}% was asked for"
    source = f"reference: mean of {times} estimates of {name}, standard error {reached**0.5:.1%} of its length{stopped}"
    return target._replace(source=source)


@torch.no_grad()
def _round(estimator: Estimator, logits: Tensor, f: Loss, plan: replicates.Plan) -> tuple[Tensor, Tensor]:
    """Block means `[blocks, components]` of one more round of estimates, and the mean loss."""
    means, values = [], []
    for loss, e in replicates.blocks(estimator, logits, f, plan):
        means.append(e.mean(dim=1, dtype=torch.float64).flatten(1))
        values.append(loss.double().flatten(1).mean(dim=1))
    return torch.cat(means), torch.cat(values).mean()
