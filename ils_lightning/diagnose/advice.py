"""One sentence of advice with its reason, from the rows of a report."""

from ils_lightning.diagnose.rows import GradientReport, Row
from ils_lightning.diagnose.tables import percent

_FAR = 1e6
_CLEARLY = 0.9
"""A best-scaled error below this share of another's is clearly better."""


def advice(report: GradientReport) -> str:
    """Returns which estimator to use, why, and when another would serve better.

    Enumeration is no choice where it costs more evaluations than are averaged.
    """
    rows = choices(report)
    if not rows:
        return "None of these estimators applies to this loss; LeaveOneOut needs neither gradients nor enumeration."
    best = rows[0]
    sentence = f"Use {best.name}: {_reason(best, report)}"
    equal = [row for row in rows[1:] if row.error_low <= best.error_high]
    if equal:
        draws = max(row.draws for row in (best, *equal))  # the exact gradient takes one
        sentence += f"; {_listed([row.name for row in equal])} cannot be told from it at {draws:,} draws"
    elif len(rows) > 1:
        sentence += f"; the next is {rows[1].name}, with an error of {_percent(rows[1].error)}"
    return f"{sentence}{_later(best, rows, report)}.{_scaled(best, rows)}"


def choices(report: GradientReport) -> list[Row]:
    """The rows among which advice chooses, best first."""
    return [row for row in report.applicable if row.evaluations <= max(1, report.average) or row.relative_bias > 0]


def _reason(best: Row, report: GradientReport) -> str:
    many = f"{report.average:,} evaluations of f" if report.average > 1 else "one evaluation of f"
    if best.relative_bias == 0 and best.relative_variance == 0:
        return f"within {many} it is the gradient itself"
    bias, noise = best.relative_bias, (max(0.0, best.error**2 - best.relative_bias**2)) ** 0.5
    parts = f"bias {_percent(bias)}, noise {_percent(noise)}"
    return f"the average that {many} buy has an error of {_percent(best.error)} ({parts})"


def _scaled(best: Row, rows: list[Row]) -> str:
    """Names the estimator that is better where the step size makes up for the length of its estimates."""
    leader = min(rows, key=lambda row: row.scaled_error)
    if not leader.scaled_error < _CLEARLY * best.scaled_error:
        return ""
    error, others = _percent(leader.scaled_error), _percent(best.scaled_error)
    return (
        f" At the best scale of each {leader.name} is better (error {error}, cosine of one estimate "
        f"{leader.cosine_of_one:.2f}, against {others} and {best.cosine_of_one:.2f}): use it where the "
        f"learning rate is tuned or Adam takes scale out; its estimates are then to be multiplied by "
        f"{leader.scale:.2g}."
    )


def _later(best: Row, rows: list[Row], report: GradientReport) -> str:
    """Names the estimator that overtakes when more evaluations are averaged, and from where on."""
    budget = float(report.average)
    while budget < _FAR:
        budget *= 1.05
        leader = min(rows, key=lambda row: row.error_after(budget))
        surely = leader.relative_bias_high < best.relative_bias_low
        if leader is not best and surely:
            return f"; averaging more than {_round(budget):,} evaluations, {leader.name} is better, having less bias"
    return ""


def _percent(share: float) -> str:
    """A share as the table has it, in a sentence."""
    return percent(share).replace("<", "less than ").replace(">", "more than ")


def _round(number: float) -> int:
    """Two significant digits."""
    return int(float(f"{number:.1e}"))


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
