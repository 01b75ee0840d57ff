"""`gradient_report`: which estimator serves a given loss, measured at given logits."""

from copy import deepcopy
from typing import Literal

import torch
from rich.progress import track
from torch import Tensor

from ils_lightning.describe import create, in_words
from ils_lightning.diagnose import far_off, forecast, replicates, target
from ils_lightning.diagnose.inputs import Facts, check, check_logits
from ils_lightning.diagnose.measure import Measured, measure, perfect, seconds_of_one
from ils_lightning.diagnose.named import Estimators, by_name
from ils_lightning.diagnose.rows import GradientReport, Row
from ils_lightning.diagnose.target import Target
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators import Estimator, LeaveOneOut, Loss
from ils_lightning.estimators.loss import known_expectation


def gradient_report(
    f: Loss,
    logits: Tensor,
    estimators: Estimators | None = None,
    draws: int = 10_000,
    exact: Literal["auto"] | bool = "auto",
    average: int = 100,
    settle: int = 30,
    limit: int = 2**20,
    reference: Estimator | None = None,
    reference_error: float = 0.01,
    memory: int = 2**26,
    seed: int = 0,
    title: str = "",
    progress: bool = False,
    ones: int = 1,
) -> GradientReport:
    """Measures gradient estimators on your loss at your logits.

    Nothing of the caller's changes: parameters, gradients, random state and estimators stay as they are. Where f is
    slow, a line on the standard error says at once how long it takes, and what for.

    Args:
        f: loss of draws `[samples, *batch, latents, categories]`, to `[samples, *batch]`; differentiable or not.
        logits: `[*batch, latents, categories]`.
        estimators: an object, class name or description, a list of them, or a mapping of names to them; all unless
            given.
        draws: estimates of the batch by each, at least 32.
        exact: enumerate all categories ** latents states: "auto" up to `limit` of them, True whatever their number,
            False not at all. A loss that knows its expectation is asked for it instead, unless False. Without either
            `reference` is what estimates are held against.
        average: evaluations of f whose estimates one averages in training, over batch and steps: the rows are ranked by
            the error of such an average. Few favour low variance, many low bias.
        settle: steps on the batch that estimators with state learn for before they are measured. They learn alone, 32
            times over: 30 are 960 calls of f on the batch for each, and 16 of all have state, which a slow loss has to
            bear (`settle=0` leaves their state as it was given).
        limit: most states to enumerate.
        reference: unbiased estimator of the reference; `LeaveOneOut(samples=16)` unless given. `LocalExpectation()` is
            sooner there with few categories (24 latents of 4: 5.9 s of processor time to a hundredth, for 7.7) and
            later with many (16 of 12: 29 s for 20).
        reference_error: its relative standard error, at which it stops; it also stops after 4 * `limit` evaluations.
        memory: bytes for the replicates of one call.
        seed: of all draws.
        title: of the report.
        progress: show a progress bar.
        ones: categories that a draw has in each latent: for `TopKSubset(size=k)` and its kin k, whose subsets are then
            enumerated. Estimators of other draws are not measured.

    Raises:
        ValueError: when f or the logits break the rules (see `inputs`), or the gradient is zero. f must judge each row
            and each draw by itself, which is tried by changing the others.

    Example:
        >>> import torch
        >>> target = torch.tensor([0.2, 0.5, 0.3])
        >>> def f(z):
        ...     return (z[..., 0, :] - target).square().sum(-1)
        >>> report = gradient_report(f, torch.tensor([[[1.0, 0.0, -1.0]]]), ["ReinMax", "LeaveOneOut"], draws=1000)
        >>> [row.name for row in report.rows if row.relative_bias_low == 0]
        ['LeaveOneOut', 'ReinMax']

        Where rows are judged by each other, as with negatives from the batch, state the batch as latents of one row:

        >>> def coupled(z):  # [samples, rows, latents, categories]
        ...     loss = f(z)
        ...     return loss - loss.logsumexp(dim=1, keepdim=True)
        >>> logits = torch.randn(3, 1, 3)  # [rows, latents, categories]
        >>> def of_one_row(z):  # [samples, 1, rows * latents, categories]
        ...     return coupled(z.unflatten(-2, logits.shape[:-1]).squeeze(1)).sum(-1, keepdim=True)
        >>> report = gradient_report(of_one_row, logits.flatten(0, 1)[None], ["LeaveOneOut"], draws=1000)
        >>> report.truth, report.rows[0].relative_bias_low
        ('exact: every one of 3 ** 3 = 27 states', 0.0)
    """
    _check(draws, average, settle, memory, exact)
    check_logits(logits)
    named = by_name(estimators)
    devices = [logits.device] if logits.is_cuda else []
    with torch.random.fork_rng(devices), torch.inference_mode(False):
        torch.manual_seed(seed)
        theta = logits.detach().clone()
        facts = check(theta, f, ones)
        source = _source(f, facts, exact, limit)
        with torch.random.fork_rng(devices):
            forecast.tell(named.values(), theta, f, facts, draws, settle, memory, source)
        truth = _truth(theta, f, facts, source, limit, reference, reference_error, memory)
        _check_direction(truth)
        rows = []
        for name, estimator in track(named.items(), "measuring", disable=not progress, transient=True):
            torch.manual_seed(seed)
            rows.append(_row(name, estimator, theta, f, facts, truth, draws, settle, memory))
        remark = far_off.remark(rows, named, theta, f, facts)
    for row in rows:
        _rank(row, average)
    rows.sort(key=lambda row: (bool(row.not_applicable), row.error if row.error == row.error else 0.0))
    latents, categories, batch = facts.latents, facts.categories, facts.rows
    return GradientReport(
        rows, title, truth.source, latents, categories, batch, truth.value, draws, average, seed, remark
    )


def _check(draws: int, average: int, settle: int, memory: int, exact: object) -> None:
    require_at_least(32, "diagnose", draws=draws)
    require_at_least(1, "diagnose", average=average, memory=memory)
    require_at_least(0, "diagnose", settle=settle)
    if exact not in ("auto", True, False):
        raise Refusal(f"diagnose: exact must be 'auto', True or False; given {exact!r}")


def _source(f: Loss, facts: Facts, exact: Literal["auto"] | bool, limit: int) -> forecast.Source:
    if exact and known_expectation(f) is not None and facts.ones == 1:
        return "known"
    return "states" if exact is True or (exact == "auto" and facts.states <= limit) else "reference"


def _truth(
    logits: Tensor,
    f: Loss,
    facts: Facts,
    source: forecast.Source,
    limit: int,
    reference: Estimator | None,
    error: float,
    memory: int,
) -> Target:
    if source == "known" and (known := target.closed_form(logits, f, facts)) is not None:
        return known
    if source == "states":
        return target.enumerated(logits, f, facts, memory)
    if facts.ones > 1:
        raise Refusal(
            f"draws of {facts.ones} categories are held against the sum over all subsets alone, and there are "
            f"{facts.choices} ** {facts.latents} states; limit is {limit}"
        )
    chosen: Estimator = LeaveOneOut(samples=16) if reference is None else create(deepcopy(reference), Estimator)
    if not chosen.unbiased:
        raise Refusal(f"the reference must be an unbiased estimator; given {in_words(chosen)}")
    return target.sampled(replicates.ready(chosen, logits), logits, f, facts, memory, error, 4 * limit)


def _check_direction(truth: Target) -> None:
    nothing = (1e-12 * truth.value) ** 2  # what rounding leaves of a constant f
    if not torch.isfinite(truth.gradient).all() or not truth.square > nothing:
        raise Refusal(
            "the gradient of E f must be finite and not zero, for bias and variance are measured by its length; here "
            f"it has length {max(0.0, truth.square) ** 0.5:.3g} ({truth.source}): f may not depend on z, or every row "
            "of logits be saturated"
        )


def _row(
    name: str,
    estimator: Estimator,
    logits: Tensor,
    f: Loss,
    facts: Facts,
    truth: Target,
    draws: int,
    settle: int,
    memory: int,
) -> Row:
    row = Row(name)
    if estimator.needs_gradient and not facts.differentiable:
        row.not_applicable = "needs df/dz, and the answer of f has no gradient in z"
        return row
    if estimator.ones != facts.ones:
        row.not_applicable = f"draws {estimator.ones} of the categories, where {facts.ones} are drawn"
        return row
    try:
        estimator.check(logits)
        if estimator.kind == "exact":
            return _exact_row(row, estimator, f, facts, truth)
        own = replicates.ready(estimator, logits)
        row.evaluations = own.evaluations(facts.latents, facts.categories)
        with torch.no_grad():
            row.bytes, work = replicates.cost_of_one(own, logits, f)
            plan = replicates.plan(own, draws, settle, row.bytes, work, memory)
            _fill(row, measure(own, logits, f, truth, plan))
            row.seconds = seconds_of_one(own, logits, f)
    except Refusal as error:
        row.not_applicable = " ".join(str(error).split())
    return row


def _exact_row(row: Row, estimator: Estimator, f: Loss, facts: Facts, truth: Target) -> Row:
    """Enumeration is not measured by itself: it is what the others are held against."""
    if truth.noise is not None:
        row.not_applicable = f"{facts.categories} ** {facts.latents} states are too many to enumerate"
        return row
    row.evaluations = estimator.evaluations_of(f, facts.latents, facts.categories)
    _fill(row, perfect())
    return row


def _fill(row: Row, found: Measured) -> None:
    row.relative_bias, row.relative_bias_low, row.relative_bias_high = found.bias
    row.relative_variance, row.relative_variance_low, row.relative_variance_high = found.variance
    row.cosine_of_one, row.cosine_of_one_low, row.cosine_of_one_high = found.cosine_of_one
    row.value_bias, row.value_bias_low, row.value_bias_high = found.value_bias
    row.cosine, row.length, row.snr, row.draws = found.cosine, found.length, found.snr, found.draws
    row.cosines = found.cosines


def _rank(row: Row, average: int) -> None:
    if row.not_applicable:
        return
    row.variance_times_cost = row.relative_variance * row.evaluations
    row.error = row.error_after(average)
    row.error_low, row.error_high = row.error_after(average, "_low"), row.error_after(average, "_high")
    row.scaled_error, row.scale = row.scaled_error_after(average), row.scale_after(average)
