"""The comparison's results: a table (CSV and Markdown), a figure (PNG and SVG) and TensorBoard runs with hparams."""

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich import box
from rich.table import Table
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ils_lightning.compare.runner import plateau
from ils_lightning.compare.spec import Comparison, Run
from ils_lightning.metrics import kl_divergence
from ils_lightning.modules import Tracked


@dataclass
class Curve:
    """All curves of one run and setting, over seeds and trials.

    Args:
        run: name of the run.
        setting: label of the setting, or empty.
        steps: recorded steps `[points]`.
        values: of the tracked quantity `[points, seeds, trials]`.
        tracked: name and label of that quantity.
        floor: the published form's predicted bias floor, or NaN.
        change: the tuned key and its value.
        seconds: training time of the run, shared by its settings.
        reference: what other curves are measured by.
    """

    run: str
    setting: str
    steps: Tensor
    values: Tensor
    tracked: Tracked
    floor: float
    change: dict[str, float]
    seconds: float
    reference: bool

    @property
    def label(self) -> str:
        """Returns run and setting."""
        return f"{self.run} {self.setting}".strip()


@dataclass
class Row:
    """One line of the table, in units of the tracked quantity; the interval is a 95 % bootstrap over rows."""

    run: str
    setting: str
    tracked: str
    seeds: int
    trials: int
    last: float
    plateau: float
    low: float
    high: float
    minimum: float
    minimum_step: int
    steps_to_twice_plateau: int
    floor: float
    tuned: str
    seconds: float


def curves(comparison: Comparison, results: list[dict]) -> list[Curve]:
    """Groups results by run and setting."""
    found = []
    for run in comparison.runs:
        mine = [result for result in results if result["run"] == run.name]
        values = torch.stack([result["values"] for result in mine], dim=1)
        seconds = sum(result["seconds"] for result in mine)
        for index, name in enumerate(run.settings.names() if run.settings else [""]):
            of_setting = (values[:, :, index] if run.settings else values).reshape(*values.shape[:2], -1)
            curve = Curve(
                run=run.name,
                setting=name,
                steps=mine[0]["steps"],
                values=of_setting,
                tracked=Tracked(*mine[0]["tracked"]),
                floor=_floor(run, mine, index),
                change=mine[0]["change"],
                seconds=seconds,
                reference=run.reference,
            )
            found.append(curve)
    return found


def _floor(run: Run, results: list[dict], index: int) -> float:
    if not run.floor:
        return float("nan")
    if "p" not in results[0]:
        raise ValueError(f"the bias floor is that of true distributions; the data of {run.name!r} have none")
    p = torch.stack([result["p"] for result in results])
    return bias_floor(p[:, index] if run.settings and run.settings.shared else p)


def bias_floor(p: Tensor) -> float:
    """Mean KL(p || p(1 - p) / Z) / categories: where the published form settles on toy example 1, less step noise."""
    q = p * (1 - p)
    return float((kl_divergence(p, q / q.sum(dim=-1, keepdim=True)) / p.shape[-1]).mean())


def row(curve: Curve) -> Row:
    """Summarises a curve."""
    level = plateau(curve.values).flatten()
    low, high = bootstrap(level)
    mean = curve.values.flatten(1).mean(dim=1)
    below = (mean < 2 * level.mean()).nonzero()
    tuned = ", ".join(f"{key.rsplit('.', 1)[-1]}={value:g}" for key, value in curve.change.items())
    return Row(
        run=curve.run,
        setting=curve.setting,
        tracked=curve.tracked.label,
        seeds=curve.values.shape[1],
        trials=curve.values.shape[2],
        last=float(mean[-1]),
        plateau=float(level.mean()),
        low=low,
        high=high,
        minimum=float(mean.min()),
        minimum_step=int(curve.steps[mean.argmin()]),
        steps_to_twice_plateau=int(curve.steps[below[0]]) if len(below) else -1,
        floor=curve.floor,
        tuned=tuned,
        seconds=curve.seconds,
    )


def bootstrap(values: Tensor, resamples: int = 2000) -> tuple[float, float]:
    """Returns the 95 % percentile interval of the mean of `values` `[n]`, with a fixed seed."""
    index = torch.randint(len(values), (resamples, len(values)), generator=torch.Generator().manual_seed(0))
    low, high = values[index].mean(dim=1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def markdown(rows: list[Row]) -> str:
    """Returns the table in Markdown; columns that are empty throughout are left out."""
    lines = [{name: _cell(value) for name, value in asdict(row).items()} for row in rows]
    names = [name for name in lines[0] if any(line[name] for line in lines)]
    head = f"| {' | '.join(name.replace('_', ' ') for name in names)} |\n|{'---|' * len(names)}\n"
    return head + "".join(f"| {' | '.join(line[name] for name in names)} |\n" for line in lines)


def screen(rows: list[Row]) -> Table:
    """Returns the columns that matter most as a table for the terminal, under the tracked quantity's name."""
    columns = ["run", "last", "plateau", "+-", "bias floor", "steps to 2x", "tuned"]
    lines = [_screen_line(row) for row in rows]
    shown = [index for index in range(len(columns)) if any(line[index] for line in lines)]
    table = Table(box=box.SIMPLE, title=", ".join(dict.fromkeys(row.tracked for row in rows)), title_justify="left")
    for index in shown:
        table.add_column(columns[index], justify="left" if index in (0, 6) else "right", no_wrap=index > 0)
    for line in lines:
        table.add_row(*(line[index] for index in shown))
    return table


def _screen_line(row: Row) -> list[str]:
    name = f"{row.run} {row.setting}".strip()
    steps = "never" if row.steps_to_twice_plateau < 0 else f"{row.steps_to_twice_plateau:,}"
    return [
        name,
        _cell(row.last),
        _cell(row.plateau),
        _cell((row.high - row.low) / 2),
        _cell(row.floor),
        steps,
        row.tuned,
    ]


def comma_separated(rows: list[Row]) -> str:
    """Returns the table as CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(asdict(rows[0])))
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def tensorboard(folder: Path, found: list[Curve], rows: list[Row], comparison: Comparison) -> None:
    """Writes one TensorBoard run a curve, thinned to 500 points, with its options as hparams."""
    runs: dict[str, Run] = {run.name: run for run in comparison.runs}
    for curve, line in zip(found, rows, strict=True):
        target = folder / curve.label.replace(" ", "_").replace("/", "_")
        for old in target.glob("events.out.*"):
            old.unlink()
        hparams = {"run": curve.run, "setting": curve.setting, **curve.change}
        hparams |= {key: str(value) for key, value in runs[curve.run].change.items()}
        with SummaryWriter(str(target)) as writer:
            writer.add_hparams(hparams, {"plateau": line.plateau, "minimum": line.minimum}, run_name=".")
            mean = curve.values.flatten(1).mean(dim=1)
            for point in range(0, len(mean), max(len(mean) // 500, 1)):
                writer.add_scalar(curve.tracked.name, mean[point], int(curve.steps[point]))


def _cell(value: float | int | str) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.3g}"
    return str(value)
