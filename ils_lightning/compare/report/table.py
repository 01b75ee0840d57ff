"""The table: a row for each run and setting; as CSV and Markdown, and the raw outcomes as CSV."""

from dataclasses import asdict, dataclass

import torch

from ils_lightning import tables
from ils_lightning.compare.grid.spec import Comparison
from ils_lightning.compare.report import statistics
from ils_lightning.compare.report.curves import Curve
from ils_lightning.compare.report.statistics import Difference
from ils_lightning.compare.training.outcome import Outcome, plateau

_NAN = float("nan")


@dataclass
class Row:
    """One line of the table, in units of the tracked quantity; averages are over seeds and trials that finished.

    Args:
        run: name of the run.
        setting: label of the setting.
        tracked: the curve's quantity.
        measure: the metric that ranks; empty where the plateau does.
        seeds: finished.
        trials: rows of a seed.
        measured: mean of the measure.
        standard_error: of that mean, over seeds.
        last: last value of the curve.
        plateau: mean over the last fifth of the curve.
        low: end of the plateau's 95 % bootstrap interval over rows.
        high: its other end.
        minimum: least value of the mean curve.
        minimum_step: where that is.
        steps_to_twice_plateau: first step below twice the plateau; -1 for never, 0 where the curve begins there.
        reference: the run of this setting to which differences are taken: the one so marked, else the best.
        difference: to the reference in what ranks, paired by seed and trial.
        difference_error: its standard error.
        pairs: number of differences.
        optimizer_steps: of one training.
        evaluations: of f in one training.
        seconds: of one training, without validation and test.
        evaluation_budget: the fewest evaluations of any run of this setting.
        at_equal_evaluations: value of the curve there.
        second_budget: the fewest seconds of any run of this setting.
        at_equal_seconds: value of the curve there.
        floor: predicted bias floor.
        tuned: keys and values.
        failed: which seeds failed and why.
    """

    run: str
    setting: str
    tracked: str = ""
    measure: str = ""
    seeds: int = 0
    trials: int = 0
    measured: float = _NAN
    standard_error: float = _NAN
    last: float = _NAN
    plateau: float = _NAN
    low: float = _NAN
    high: float = _NAN
    minimum: float = _NAN
    minimum_step: int = -1
    steps_to_twice_plateau: int = -1
    reference: str = ""
    difference: float = _NAN
    difference_error: float = _NAN
    pairs: int = 0
    optimizer_steps: int = 0
    evaluations: float = _NAN
    seconds: float = _NAN
    evaluation_budget: float = _NAN
    at_equal_evaluations: float = _NAN
    second_budget: float = _NAN
    at_equal_seconds: float = _NAN
    floor: float = _NAN
    tuned: str = ""
    failed: str = ""

    @property
    def ranked(self) -> float:
        """What ranks: the measure, or the plateau."""
        return self.measured if self.measure else self.plateau


def rows(comparison: Comparison, curves: list[Curve]) -> list[Row]:
    """Returns the table's rows: by setting, and from best to worst where a measure ranks."""
    found = []
    for setting in dict.fromkeys(curve.setting for curve in curves):
        mine = [curve for curve in curves if curve.setting == setting]
        lines = [_row(curve, comparison.measure) for curve in mine]
        if len(mine) > 1:
            _compare(mine, lines, comparison)
        found += lines
    if not comparison.measure:
        order = {curve.label: number for number, curve in enumerate(curves)}
        return sorted(found, key=lambda row: order[f"{row.run} {row.setting}".strip()])
    settings = list(dict.fromkeys(curve.setting for curve in curves))
    return sorted(found, key=lambda row: (settings.index(row.setting), row.ranked != row.ranked, row.ranked))


def _row(curve: Curve, measure: str | None) -> Row:
    change = curve.outcomes[0].change
    tuned = ", ".join(f"{key.rsplit('.', 1)[-1]}={cell(value)}" for key, value in change.items())
    row = Row(curve.run, curve.setting, measure=measure or "", floor=curve.floor, tuned=tuned, failed=curve.failures)
    if not curve.finished:
        return row
    level = plateau(curve.values).flatten()
    mean, first = curve.mean, curve.finished[0]
    below = (mean < 2 * level.mean()).nonzero()
    if measure:
        scores = torch.cat([statistics.rows(outcome, measure) for outcome in curve.finished])
        row.measured, row.standard_error = float(scores.mean()), statistics.standard_error(scores)
    row.tracked, row.seeds, row.trials = curve.tracked.label, *curve.values.shape[1:]
    row.last, row.plateau, (row.low, row.high) = float(mean[-1]), float(level.mean()), statistics.bootstrap(level)
    row.minimum, row.minimum_step = float(mean.min()), int(curve.steps[mean.argmin()])
    row.steps_to_twice_plateau = (int(curve.steps[below[0]]) if below[0] else 0) if len(below) else -1
    row.optimizer_steps, row.evaluations = first.optimizer_steps, first.optimizer_steps * first.evaluations
    row.seconds = sum(outcome.seconds for outcome in curve.finished) / len(curve.finished)
    return row


def _compare(curves: list[Curve], rows: list[Row], comparison: Comparison) -> None:
    """Fills in what rows of one setting say about each other."""
    budget, values = statistics.at_equal(curves, statistics.evaluations_spent)
    for row, value in zip(rows, values, strict=True):
        row.evaluation_budget, row.at_equal_evaluations = budget, value
    budget, values = statistics.at_equal(curves, statistics.seconds_spent)
    for row, value in zip(rows, values, strict=True):
        row.second_budget, row.at_equal_seconds = budget, value
    ranked = [pair for pair in zip(curves, rows, strict=True) if pair[0].finished]
    if not comparison.paired or not ranked:
        return
    marked = [pair for pair in ranked if pair[0].reference]
    reference, _ = (marked or sorted(ranked, key=lambda pair: pair[1].ranked))[0]
    for curve, row in ranked:
        row.reference = reference.run
        if curve is not reference:
            found: Difference = statistics.difference(curve, reference, comparison.measure)
            row.difference, row.difference_error, row.pairs = found


def comma_separated(rows: list[Row]) -> str:
    """Returns the table as CSV."""
    return tables.comma_separated([asdict(row) for row in rows])


def raw(outcomes: list[Outcome]) -> str:
    """Returns a line for each run, setting and seed, with every metric, as CSV."""
    metrics = sorted({name for outcome in outcomes for name in outcome.metrics})
    lines = []
    for outcome in outcomes:
        whole = {} if outcome.failed else {"plateau": outcome.score(None), "last": float(outcome.values[-1].mean())}
        line = {"run": outcome.run, "setting": outcome.setting, "seed": outcome.seed}
        line |= {"tuned": ", ".join(f"{key}={value}" for key, value in outcome.change.items())}
        line |= {"optimizer_steps": outcome.optimizer_steps, "seconds": outcome.seconds}
        line |= {"evaluations": outcome.optimizer_steps * outcome.evaluations}
        line |= {"plateau": "", "last": "", **whole}
        lines.append(line | {name: outcome.metrics.get(name, "") for name in metrics} | {"failed": outcome.failed})
    return tables.comma_separated(lines)


def markdown(rows: list[Row]) -> str:
    """Returns the table in Markdown; columns that are empty throughout are left out."""
    lines = [{name: cell(value) for name, value in asdict(row).items()} for row in rows]
    names = [name for name in lines[0] if any(line[name] for line in lines)]
    headings = [name.replace("_", " ") for name in names]
    return tables.markdown(headings, ([line[name] for name in names] for line in lines))


def cell(value: float | int | str) -> str:
    """Returns a value as text; NaN is empty.

    Example:
        >>> cell(0.012345), cell(20.4567), cell(20.5), cell(1500000.0), cell(float("nan")), cell("x")
        ('0.0123', '20.457', '20.500', '1.5e+06', '', 'x')
    """
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return ""
    if 10 <= abs(value) < 1000:
        return f"{value:#.5g}"  # zeros at the end kept, so that a column lines up
    return f"{value:.5g}" if 1000 <= abs(value) < 1e5 else f"{value:.3g}"
